"""`/v1/completions`."""

PROMPT = "The capital of France is"


def test_an_answer_has_every_field(complete, model):
    answer = complete(PROMPT)
    [choice] = answer.choices
    assert answer.object == "text_completion" and answer.model == model and answer.id.startswith("cmpl-")
    assert choice.text.startswith(" Paris") and choice.finish_reason == "length" and choice.logprobs is None
    assert answer.usage.prompt_tokens == 5 and answer.usage.completion_tokens == 16


def test_sixteen_tokens_are_the_default(client, model):
    answer = client.completions.create(model=model, prompt=PROMPT, extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 16


def test_token_ids_are_a_prompt_too(client, complete, model):
    ids = client.post("../tokenize", cast_to=object, body={"model": model, "prompt": PROMPT})["tokens"]
    assert complete(ids).choices[0].text == complete(PROMPT).choices[0].text


def test_several_prompts_keep_their_order(complete):
    prompts = [PROMPT, "1, 2, 3, 4,", "def main():"]
    answer = complete(prompts, n=2, temperature=1.0, seed=3)
    assert [choice.index for choice in answer.choices] == list(range(6))
    for i, prompt in enumerate(prompts):
        alone = complete(prompt, n=2, temperature=1.0, seed=3)
        texts = [choice.text for choice in alone.choices]
        assert [choice.text for choice in answer.choices[2 * i : 2 * i + 2]] == texts


def test_logprobs_are_parallel_lists(complete):
    answer = complete(PROMPT, logprobs=3, max_tokens=6).choices[0]
    logprobs = answer.logprobs
    assert "".join(logprobs.tokens) == answer.text
    assert len(logprobs.token_logprobs) == len(logprobs.top_logprobs) == len(logprobs.text_offset) == 6
    for token, logprob, top in zip(logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs):
        assert logprob <= 0 and len(top) == 3
        assert top[token] == logprob == max(top.values())
    starts = [sum(len(t) for t in logprobs.tokens[:i]) for i in range(6)]
    assert logprobs.text_offset == starts


def test_streamed_text_is_the_whole_text(complete):
    chunks = list(complete(PROMPT, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == complete(PROMPT).choices[0].text
    assert chunks[-1].choices[0].finish_reason == "length"
    assert all(chunk.object == "text_completion" for chunk in chunks)


def test_a_stop_string_is_not_in_the_text(complete):
    whole = complete(PROMPT).choices[0].text
    choice = complete(PROMPT, stop=[whole[8:12]]).choices[0]
    assert choice.text == whole[: whole.index(whole[8:12])] and choice.finish_reason == "stop"


def test_text_is_tokenised_there_and_back(client, model):
    text = "Où est\n\n  le 東京 😀 123?"
    tokens = client.post("../tokenize", cast_to=object, body={"model": model, "prompt": text})
    assert tokens["count"] == len(tokens["tokens"])
    back = client.post("../detokenize", cast_to=object, body={"model": model, "tokens": tokens["tokens"]})
    assert back["prompt"] == text
