"""openai-python against a gateway in front of the scripted provider of `codex-relay demo`.

Reads RELAY_BASE_URL and RELAY_KEY. Every function whose name begins with `check_` is one check.
"""

import asyncio
import os
import sys
import time
import traceback

import openai
from openai import AsyncOpenAI, OpenAI

BASE_URL = os.environ["RELAY_BASE_URL"]
KEY = os.environ["RELAY_KEY"]
TOOL = {
    "name": "shell_command",
    "description": "Runs a command.",
    "parameters": {
        "type": "object",
        "properties": {"command": {"type": "string"}},
        "required": ["command"],
        "additionalProperties": False,
    },
}
HELLO = [{"role": "user", "content": "hello"}]

# What hangs shall fail here, and soon.
client = OpenAI(base_url=BASE_URL, api_key=KEY, timeout=20)
impatient = client.with_options(max_retries=0)


def raises(kind, call):
    """Calls, and gives back the exception, which must be of this kind."""
    try:
        value = call()
    except kind as error:
        return error
    raise AssertionError(f"expected {kind}, but it returned {value!r}")


def check_responses_plain():
    response = client.responses.create(model="demo", input="hello")
    assert response.status == "completed", response
    assert "You have said: hello" in response.output_text, response
    assert response.usage.input_tokens > 0, response
    assert response.usage.input_tokens_details.cached_tokens > 0, response
    assert response.usage.output_tokens_details.reasoning_tokens > 0, response
    assert response._request_id, "the request id is not exposed"


def check_responses_streamed():
    stream = client.responses.create(model="demo", input="hello", stream=True)
    events = list(stream)
    kinds = [event.type for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"], kinds
    assert kinds[-1] == "response.completed", kinds
    assert [event.sequence_number for event in events] == list(range(len(events))), kinds
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert len(deltas) > 5, deltas
    completed = events[-1].response
    assert "".join(deltas) == completed.output_text, completed
    assert completed.usage.total_tokens > 0, completed


def check_responses_accumulated():
    with client.responses.stream(model="demo", input="hello") as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
    assert "You have said: hello" in final.output_text, final


def check_responses_tool_call():
    question = {"role": "user", "content": "run: echo one two"}
    tools = [{"type": "function", "strict": True, **TOOL}]
    with client.responses.stream(model="demo", input=[question], tools=tools) as stream:
        final = stream.get_final_response()
    call = final.output[0]
    assert (call.type, call.arguments) == ("function_call", '{"command":"echo one two"}'), final
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "one two"}
    sent = {key: getattr(call, key) for key in ("type", "call_id", "name", "arguments")}
    answer = client.responses.create(model="demo", input=[question, sent, output], tools=tools)
    assert "has printed: one two" in answer.output_text, answer


def check_chat_plain():
    completion = client.chat.completions.create(model="demo", messages=HELLO)
    assert "You have said: hello" in completion.choices[0].message.content, completion
    assert completion.choices[0].finish_reason == "stop", completion
    assert completion.usage.total_tokens > 0, completion
    assert completion._request_id, "the request id is not exposed"


def check_chat_streamed():
    stream = client.chat.completions.create(
        model="demo", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "You have said: hello" in text, text
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop", chunks
    assert chunks[-1].usage.total_tokens > 0, chunks[-1]


def check_chat_tool_call():
    question = [{"role": "user", "content": "run: echo one two"}]
    tools = [{"type": "function", "function": TOOL}]
    with client.chat.completions.stream(model="demo", messages=question, tools=tools) as stream:
        final = stream.get_final_completion()
    call = final.choices[0].message.tool_calls[0]
    assert call.function.arguments == '{"command":"echo one two"}', final


def check_models():
    assert "demo" in [model.id for model in client.models.list()]


def check_wrong_key():
    stranger = OpenAI(base_url=BASE_URL, api_key="not-a-key")
    error = raises(
        openai.AuthenticationError, lambda: stranger.responses.create(model="demo", input="hello")
    )
    assert (error.status_code, error.code) == (401, "invalid_api_key"), error
    assert error.request_id, "the request id is not exposed"


def check_not_found():
    error = raises(
        openai.NotFoundError, lambda: client.responses.create(model="no-such", input="hello")
    )
    assert error.status_code == 404 and error.code == "model_not_found", error
    assert "no-such" in error.message, error


def check_bad_request():
    error = raises(
        openai.BadRequestError,
        lambda: client.post("/responses", body={"model": "demo"}, cast_to=object),
    )
    assert "input" in error.message, error


def check_rate_limit():
    began = time.monotonic()
    error = raises(
        openai.RateLimitError, lambda: client.responses.create(model="demo-429", input="hello")
    )
    assert int(error.response.headers["retry-after"]) >= 1, error.response.headers
    # Two retries, each after the time that Retry-After asks for.
    assert time.monotonic() - began >= 2, "Retry-After was not obeyed"


def check_rate_limit_of_a_stream():
    raises(
        openai.RateLimitError,
        lambda: impatient.responses.create(model="demo-429", input="hello", stream=True),
    )


def check_server_errors():
    for model in ("demo-500", "demo-503"):
        error = raises(
            openai.InternalServerError,
            lambda: impatient.responses.create(model=model, input="hello"),
        )
        assert error.status_code >= 500, error
        assert error.request_id, "the request id is not exposed"


def check_broken_streams_raise():
    calls = {
        "responses": lambda: impatient.responses.create(
            model="demo-break", input="hello", stream=True
        ),
        "chat": lambda: impatient.chat.completions.create(
            model="demo-break", messages=HELLO, stream=True
        ),
    }
    for name, call in calls.items():
        events = []
        raises(Exception, lambda: events.extend(iter(call())) or events)
        assert "response.completed" not in [getattr(event, "type", "") for event in events], name


def check_broken_answer_raises():
    error = raises(
        Exception, lambda: impatient.responses.create(model="demo-break", input="hello")
    )
    assert isinstance(error, openai.APIError), repr(error)


def check_slow_answer():
    assert client.responses.create(model="demo-slow", input="hello").output_text
    hasty = client.with_options(max_retries=0, timeout=0.5)
    raises(
        openai.APITimeoutError, lambda: hasty.responses.create(model="demo-slow", input="hello")
    )
    assert client.responses.create(model="demo", input="hello").output_text


def check_cancel_and_go_on():
    for _ in range(5):
        stream = client.responses.create(model="demo-long", input="hello", stream=True)
        iterator = iter(stream)
        first = [next(iterator).type for _ in range(5)]
        assert first[0] == "response.created", first
        stream.close()
        assert client.responses.create(model="demo", input="hello").output_text


def check_parallel_streams():
    async def one(asynchronous, number):
        stream = await asynchronous.responses.create(
            model="demo", input=f"number {number}.", stream=True
        )
        kinds, text = [], ""
        async for event in stream:
            kinds.append(event.type)
            if event.type == "response.output_text.delta":
                text += event.delta
        assert kinds[-1] == "response.completed", kinds
        assert text.endswith(f"number {number}."), text

    async def every():
        async with AsyncOpenAI(base_url=BASE_URL, api_key=KEY) as asynchronous:
            await asyncio.gather(*(one(asynchronous, number) for number in range(20)))

    asyncio.run(every())


def check_x_api_key_beside_a_dummy_bearer():
    dummy = OpenAI(base_url=BASE_URL, api_key="unused", default_headers={"X-API-Key": KEY})
    assert dummy.responses.create(model="demo", input="hello").output_text
    wrong = OpenAI(base_url=BASE_URL, api_key=KEY, default_headers={"X-API-Key": "not-a-key"})
    raises(openai.AuthenticationError, lambda: wrong.responses.create(model="demo", input="hello"))


def check_header_fields():
    raw = client.responses.with_raw_response.create(
        model="demo", input="hello", extra_headers={"X-Request-ID": "chosen-by-the-client"}
    )
    headers = raw.headers
    assert headers["x-request-id"] == "chosen-by-the-client", headers
    assert raw.parse()._request_id == "chosen-by-the-client"
    assert headers["x-relay-attempts"] == "1", headers
    assert headers["openai-processing-ms"] == "7", headers
    for name in ("openai-organization", "set-cookie"):
        assert name not in headers, headers


def main():
    checks = [(n, c) for n, c in globals().items() if n.startswith("check_")]
    failed = 0
    for name, check in checks:
        began = time.monotonic()
        try:
            check()
            verdict = "ok"
        except Exception:
            traceback.print_exc(file=sys.stdout)
            failed += 1
            verdict = "FAILED"
        print(f"{name} ... {verdict} ({time.monotonic() - began:.1f} s)", flush=True)
    print(f"openai-python {openai.__version__}: {len(checks) - failed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
