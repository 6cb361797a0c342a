"""Streamed chat answers, and clients that go away."""

import asyncio
import json

import openai

from conftest import TIMEOUT_S

QUESTION = "Why is the sky blue?"


def text(chunks, index=0):
    deltas = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].index == index]
    return "".join(delta or "" for delta in deltas)


def test_pieces_make_the_whole_answer(chat):
    chunks = list(chat(QUESTION, stream=True))
    assert text(chunks) == chat(QUESTION).choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "length"
    assert all(chunk.choices[0].finish_reason is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len(chunks) > 10, "tokens come one by one"
    assert all(chunk.usage is None for chunk in chunks)


def test_usage_comes_last_when_asked_for(chat):
    chunks = list(chat(QUESTION, stream=True, stream_options={"include_usage": True}))
    whole = chat(QUESTION)
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-1].choices == []
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens
    assert chunks[-1].usage.completion_tokens == 24
    assert chunks[-1].usage.prompt_tokens_details.cached_tokens >= 0


def test_choices_are_interleaved_but_whole(chat):
    options = {"n": 3, "temperature": 1.0, "seed": 5, "max_tokens": 10}
    chunks = list(chat(QUESTION, stream=True, **options))
    whole = chat(QUESTION, **options)
    for choice in whole.choices:
        assert text(chunks, choice.index) == choice.message.content
    ends = [c.choices[0].index for c in chunks if c.choices[0].finish_reason]
    assert sorted(ends) == [0, 1, 2]


def test_a_stop_string_across_pieces_never_leaks(chat):
    whole = chat(QUESTION).choices[0].message.content
    stop = whole[9:21]
    chunks = list(chat(QUESTION, stream=True, stop=stop))
    assert text(chunks) == whole[: whole.index(stop)]
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_no_broken_characters_are_streamed(chat):
    chunks = list(chat("Repeat after me: 😀🎉東京 Привет", stream=True, max_tokens=48))
    assert "\ufffd" not in text(chunks)


def test_the_stream_is_events_that_end_with_done(raw, model):
    body = {"model": model, "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 3, "stream": True}
    status, answer = raw("POST", "/v1/chat/completions", json.dumps(body))
    events = answer.decode().split("\n\n")
    assert status == 200 and events[-2:] == ["data: [DONE]", ""]
    for event in events[:-2]:
        assert event.startswith("data: ")
        json.loads(event.removeprefix("data: "))


def test_an_error_before_the_first_token_has_a_status(chat):
    try:
        chat(QUESTION, stream=True, max_tokens=0)
    except openai.BadRequestError as error:
        assert error.param == "max_tokens"
    else:
        raise AssertionError("no error")


def test_clients_that_go_away_leave_a_healthy_server(chat):
    before = chat(QUESTION).choices[0].message.content
    for _ in range(12):
        stream = chat("Tell me a very long story.", stream=True, max_tokens=2000)
        for _, _chunk in zip(range(3), stream):
            pass
        stream.close()
    assert chat(QUESTION).choices[0].message.content == before


def test_many_at_once_answer_as_alone(chat, base_url, model):
    questions = [f"What comes after {i}?" for i in range(8)]
    alone = [chat(question).choices[0].message.content for question in questions]

    async def together():
        async with openai.AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=TIMEOUT_S) as client:
            return await asyncio.gather(*(
                client.chat.completions.create(
                    model=model, messages=[{"role": "user", "content": question}], temperature=0, max_tokens=24
                )
                for question in questions
            ))

    assert [answer.choices[0].message.content for answer in asyncio.run(together())] == alone
