"""Fixtures. The server runs already: `python -m pytest integration-tests/openai_client --base-url http://HOST:PORT/v1`."""

import http.client
import json
import urllib.parse

import openai
import pytest

TIMEOUT_S = 120


def pytest_addoption(parser):
    parser.addoption("--base-url", help="of the running server, with /v1 at the end")


@pytest.fixture(scope="session")
def base_url(pytestconfig):
    url = pytestconfig.getoption("--base-url")
    if not url:
        pytest.exit("name the running server with --base-url", returncode=2)
    return url.rstrip("/")


@pytest.fixture(scope="session")
def client(base_url):
    with openai.OpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=TIMEOUT_S) as client:
        yield client


@pytest.fixture(scope="session")
def model(client):
    return client.models.list().data[0].id


@pytest.fixture(scope="session")
def context_length(client):
    return client.models.list().data[0].max_model_len


@pytest.fixture(scope="session")
def chat(client, model):
    """A chat answer to one user message; greedy and short unless told otherwise."""

    def ask(content, **options):
        options = {"model": model, "temperature": 0, "max_tokens": 24, **options}
        options.setdefault("messages", [{"role": "user", "content": content}])
        return client.chat.completions.create(**options)

    return ask


@pytest.fixture(scope="session")
def complete(client, model):
    """A completion; greedy and short unless told otherwise."""

    def ask(prompt, **options):
        options = {"model": model, "temperature": 0, "max_tokens": 16, **options}
        return client.completions.create(prompt=prompt, **options)

    return ask


@pytest.fixture(scope="session")
def raw(base_url):
    """`(status, body)` of a request that the client package would not send."""
    url = urllib.parse.urlsplit(base_url)

    def send(method, path, body=None, headers=None):
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, body, {"content-type": "application/json", **(headers or {})})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    return send


@pytest.fixture(scope="session")
def raw_error(raw):
    """`(status, error object)`; checks that it has OpenAI's shape."""

    def send(method, path, body=None):
        status, answer = raw(method, path, body)
        error = json.loads(answer)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"] and error["type"] and error["code"]
        return status, error

    return send
