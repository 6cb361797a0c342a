"""Log-probabilities of chat answers."""

import math

QUESTION = "Name three colours."


def test_every_token_has_one(chat):
    choice = chat(QUESTION, logprobs=True, max_tokens=8).choices[0]
    assert len(choice.logprobs.content) == 8
    assert b"".join(bytes(token.bytes) for token in choice.logprobs.content).decode() == choice.message.content
    assert all(token.logprob <= 0 and token.top_logprobs == [] for token in choice.logprobs.content)


def test_alternatives_are_sorted_and_hold_the_greedy_token_first(chat):
    choice = chat(QUESTION, logprobs=True, top_logprobs=5, max_tokens=8).choices[0]
    for token in choice.logprobs.content:
        top = [alternative.logprob for alternative in token.top_logprobs]
        assert len(top) == 5 and top == sorted(top, reverse=True)
        assert token.top_logprobs[0].token == token.token and top[0] == token.logprob
        assert sum(math.exp(logprob) for logprob in top) <= 1 + 1e-4


def test_twenty_alternatives_are_possible(chat):
    choice = chat(QUESTION, logprobs=True, top_logprobs=20, max_tokens=2).choices[0]
    assert all(len(token.top_logprobs) == 20 for token in choice.logprobs.content)


def test_streamed_and_whole_are_equal(chat):
    options = {"logprobs": True, "top_logprobs": 2, "max_tokens": 8, "temperature": 1.0, "seed": 1}
    whole = chat(QUESTION, **options).choices[0].logprobs.content
    streamed = []
    for chunk in chat(QUESTION, stream=True, **options):
        logprobs = chunk.choices[0].logprobs
        streamed.extend(logprobs.content if logprobs else [])
    assert streamed == whole


def test_they_do_not_change_the_answer(chat):
    options = {"temperature": 1.0, "seed": 2}
    plain = chat(QUESTION, **options).choices[0].message.content
    assert chat(QUESTION, logprobs=True, top_logprobs=20, **options).choices[0].message.content == plain
