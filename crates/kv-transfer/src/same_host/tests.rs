use super::*;

#[test]
fn only_processes_of_one_user_share_memory() {
    assert_eq!(same_user(7, 7), Ok(()));
    let text = same_user(0, 7).unwrap_err().to_string();
    assert!(text.contains("runs as user 0, this one as user 7"), "{text}");
}

#[tokio::test]
async fn the_kernel_says_who_the_peer_is() {
    let (a, b) = UnixStream::pair().unwrap();
    assert_eq!((check_peer(&a), check_peer(&b)), (Ok(()), Ok(())));
    let uid = a.peer_cred().unwrap().uid();
    assert_eq!(uid, rustix::process::geteuid().as_raw());
}
