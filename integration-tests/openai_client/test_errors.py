"""Bad requests get OpenAI's errors, and change nothing."""

import json

import openai
import pytest

QUESTION = "Hello!"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def refused(call, status=400, code="invalid_request", param=None):
    """The error of `call`, which must have these properties."""
    with pytest.raises(openai.APIStatusError) as caught:
        call()
    error = caught.value
    assert (error.status_code, error.code) == (status, code), error.message
    if param:
        assert error.param == param
    assert error.type and error.body["message"]
    return error


def test_an_unknown_model_is_not_found(chat, client):
    refused(lambda: chat(QUESTION, model="gpt-nonexistent"), 404, "model_not_found")
    refused(lambda: client.models.retrieve("gpt-nonexistent"), 404, "model_not_found")


def test_messages_must_be_there(chat, client, model):
    refused(lambda: chat(None, messages=[]), param="messages")
    refused(lambda: client.post("/chat/completions", cast_to=object, body={"model": model}), param="messages")


def test_a_prompt_must_be_there(complete):
    refused(lambda: complete(""), param="prompt")
    refused(lambda: complete([]), param="prompt")
    refused(lambda: complete([1, 2, 10**9]), param="prompt")


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("value", [0, -1])
def test_no_tokens_cannot_be_asked_for(client, model, name, value):
    messages = [{"role": "user", "content": QUESTION}]
    refused(lambda: client.chat.completions.create(model=model, messages=messages, **{name: value}), param=name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", 5.0),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("n", 0),
        ("n", 100_000),
        ("presence_penalty", 9.0),
        ("frequency_penalty", -9.0),
        ("stop", ""),
        ("max_tokens", "many"),
        ("temperature", "hot"),
        ("stream", "perhaps"),
        ("seed", 1.5),
        ("logprobs", 3),
    ],
)
def test_impossible_values_are_named(chat, name, value):
    refused(lambda: chat(QUESTION, extra_body={name: value}), param=name)


def test_too_many_alternatives_are_refused(chat):
    refused(lambda: chat(QUESTION, logprobs=True, top_logprobs=21))
    refused(lambda: chat(QUESTION, top_logprobs=2), param="top_logprobs")


def test_a_prompt_longer_than_the_context_is_refused(chat, complete, context_length):
    long = " word" * (context_length + 10)
    refused(lambda: chat(long), code="context_length_exceeded")
    refused(lambda: complete(long), code="context_length_exceeded")
    refused(lambda: chat(long, stream=True), code="context_length_exceeded")


def test_prompt_and_answer_together_must_fit(chat, context_length):
    refused(lambda: chat(QUESTION, max_tokens=context_length), code="context_length_exceeded")
    refused(lambda: chat(QUESTION, max_tokens=10**12), code="context_length_exceeded")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tools", [TOOL]),
        ("functions", [{"name": "f", "parameters": {}}]),
        ("response_format", SCHEMA),
        ("response_format", {"type": "json_object"}),
        ("logit_bias", {"50": -100}),
        ("audio", {"voice": "alloy", "format": "wav"}),
        ("modalities", ["text", "audio"]),
    ],
)
def test_fields_that_would_change_the_answer_are_refused(chat, name, value):
    refused(lambda: chat(QUESTION, **{name: value}), code="unsupported_parameter", param=name)


@pytest.mark.parametrize(("name", "value"), [("echo", True), ("suffix", "end"), ("best_of", 2)])
def test_so_are_those_of_completions(complete, name, value):
    refused(lambda: complete(QUESTION, **{name: value}), code="unsupported_parameter", param=name)


def test_images_and_strange_roles_are_refused(chat):
    refused(lambda: chat([IMAGE]), code="unsupported_parameter")
    refused(lambda: chat(None, messages=[{"role": "wizard", "content": QUESTION}]))
    refused(lambda: chat(None, messages=[{"role": "user", "content": 7}]))
    refused(lambda: chat(None, messages=[{"role": "user", "content": None}]))


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'"text"', b'{"model": }', b"\xff\xfe", b'{"messages": "\xc3\x28"}', b"[" * 5000],
)
def test_what_is_no_json_object_is_refused(raw_error, body):
    for path in ["/v1/chat/completions", "/v1/completions", "/tokenize"]:
        status, error = raw_error("POST", path, body)
        assert (status, error["code"]) == (400, "invalid_request")


def test_an_oversized_body_is_refused(raw_error, model):
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "x" * (5 << 20)}]})
    status, error = raw_error("POST", "/v1/chat/completions", body)
    assert (status, error["code"]) == (413, "body_too_large")


def test_unknown_paths_are_not_found_and_wrong_methods_are_refused(raw_error):
    for method, path in [("GET", "/v1/nothing"), ("POST", "/v2/chat/completions")]:
        status, error = raw_error(method, path)
        assert (status, error["code"]) == (404, "not_found")
    status, error = raw_error("GET", "/v1/chat/completions")
    assert (status, error["type"]) == (405, "invalid_request_error")


def test_the_server_is_well_afterwards(chat, raw):
    assert raw("GET", "/health/live")[0] == raw("GET", "/health/ready")[0] == 200
    assert chat(QUESTION).choices[0].message.content
