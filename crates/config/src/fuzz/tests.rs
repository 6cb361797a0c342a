use super::*;
use estafette_fuzzing::drive;

#[test]
fn command_lines() {
    let corpus: [&[u8]; 4] = [
        b"--model\nCargo.toml\n--listen\n0.0.0.0:1\n--advertise\nw-0\n--kv-memory\n512MiB\n--threads\n2\n--drain-timeout\n1.5s",
        b"--model=Cargo.toml\n--max-num-seqs=4\n--max-num-batched-tokens=16\n--mock-step=5ms\n--transport=tcp\n--router=[::1]:8001",
        b"--model=Cargo.toml\n--http=[::1]:80\n--grpc=127.0.0.1:8001\n--max-body=4MiB\n--max-wait=1h\n--seed=18446744073709551615",
        b"--tls-ca=Cargo.toml\n--tls-cert=Cargo.toml\n--tls-key=none.pem",
    ];
    drive(flags, 11, &corpus);
}
