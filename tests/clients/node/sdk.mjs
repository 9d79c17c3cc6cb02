// openai-node against a gateway in front of the scripted provider of `codex-relay demo`.
//
// Reads RELAY_BASE_URL and RELAY_KEY. Every entry of `checks` is one check.

import assert from "node:assert/strict";
import OpenAI from "openai";
import { VERSION } from "openai/version";

const baseURL = process.env.RELAY_BASE_URL;
const apiKey = process.env.RELAY_KEY;
const hello = [{ role: "user", content: "hello" }];
const tool = {
  name: "shell_command",
  description: "Runs a command.",
  parameters: {
    type: "object",
    properties: { command: { type: "string" } },
    required: ["command"],
    additionalProperties: false,
  },
};

// What hangs shall fail here, and soon.
const client = new OpenAI({ baseURL, apiKey, timeout: 20_000 });
const impatient = client.withOptions({ maxRetries: 0 });

/** Awaits the failure of a call, which must be of this kind. */
async function rejects(kind, call) {
  let value;
  try {
    value = await call();
  } catch (error) {
    assert.ok(error instanceof kind, `expected ${kind.name}, got ${error?.stack ?? error}`);
    return error;
  }
  throw new Error(`expected ${kind.name}, but it returned ${JSON.stringify(value)}`);
}

async function collect(stream, into = []) {
  for await (const event of stream) into.push(event);
  return into;
}

const checks = {
  async responsesPlain() {
    const response = await client.responses.create({ model: "demo", input: "hello" });
    assert.equal(response.status, "completed");
    assert.match(response.output_text, /You have said: hello/);
    assert.ok(response.usage.input_tokens > 0);
    assert.ok(response.usage.input_tokens_details.cached_tokens > 0);
    assert.ok(response.usage.output_tokens_details.reasoning_tokens > 0);
    assert.ok(response._request_id, "the request id is not exposed");
  },

  async responsesStreamed() {
    const stream = await client.responses.create({ model: "demo", input: "hello", stream: true });
    const events = await collect(stream);
    const kinds = events.map((event) => event.type);
    assert.deepEqual(kinds.slice(0, 2), ["response.created", "response.in_progress"]);
    assert.equal(kinds.at(-1), "response.completed");
    assert.deepEqual(
      events.map((event) => event.sequence_number),
      [...events.keys()],
    );
    const deltas = events.filter((event) => event.type === "response.output_text.delta");
    assert.ok(deltas.length > 5);
    const completed = events.at(-1).response;
    assert.equal(deltas.map((event) => event.delta).join(""), completed.output[0].content[0].text);
    assert.ok(completed.usage.total_tokens > 0);
  },

  async responsesAccumulated() {
    const final = await client.responses.stream({ model: "demo", input: "hello" }).finalResponse();
    assert.match(final.output_text, /You have said: hello/);
  },

  async responsesToolCall() {
    const question = { role: "user", content: "run: echo one two" };
    const tools = [{ type: "function", strict: true, ...tool }];
    const stream = client.responses.stream({ model: "demo", input: [question], tools });
    const [call] = (await stream.finalResponse()).output;
    assert.equal(call.arguments, '{"command":"echo one two"}');
    const output = { type: "function_call_output", call_id: call.call_id, output: "one two" };
    const { type, call_id, name, arguments: text } = call;
    const input = [question, { type, call_id, name, arguments: text }, output];
    const answer = await client.responses.create({ model: "demo", input, tools });
    assert.match(answer.output_text, /has printed: one two/);
  },

  async chatPlain() {
    const completion = await client.chat.completions.create({ model: "demo", messages: hello });
    assert.match(completion.choices[0].message.content, /You have said: hello/);
    assert.equal(completion.choices[0].finish_reason, "stop");
    assert.ok(completion.usage.total_tokens > 0);
    assert.ok(completion._request_id, "the request id is not exposed");
  },

  async chatStreamed() {
    const stream = await client.chat.completions.create({
      model: "demo",
      messages: hello,
      stream: true,
      stream_options: { include_usage: true },
    });
    const chunks = await collect(stream);
    const text = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");
    assert.match(text, /You have said: hello/);
    assert.ok(chunks.at(-1).usage.total_tokens > 0);
  },

  async chatToolCall() {
    const final = await client.chat.completions
      .stream({
        model: "demo",
        messages: [{ role: "user", content: "run: echo one two" }],
        tools: [{ type: "function", function: tool }],
      })
      .finalChatCompletion();
    const [call] = final.choices[0].message.tool_calls;
    assert.equal(call.function.arguments, '{"command":"echo one two"}');
  },

  async models() {
    const models = await collect(await client.models.list());
    assert.ok(models.some((model) => model.id === "demo"));
  },

  async wrongKey() {
    const stranger = new OpenAI({ baseURL, apiKey: "not-a-key" });
    const error = await rejects(OpenAI.AuthenticationError, () =>
      stranger.responses.create({ model: "demo", input: "hello" }),
    );
    assert.deepEqual([error.status, error.code], [401, "invalid_api_key"]);
    assert.ok(error.requestID, "the request id is not exposed");
  },

  async notFound() {
    const error = await rejects(OpenAI.NotFoundError, () =>
      client.responses.create({ model: "no-such", input: "hello" }),
    );
    assert.equal(error.code, "model_not_found");
    assert.match(error.message, /no-such/);
  },

  async badRequest() {
    const error = await rejects(OpenAI.BadRequestError, () =>
      client.post("/responses", { body: { model: "demo" } }),
    );
    assert.match(error.message, /input/);
  },

  async rateLimit() {
    const began = performance.now();
    const error = await rejects(OpenAI.RateLimitError, () =>
      client.responses.create({ model: "demo-429", input: "hello" }),
    );
    assert.ok(Number(error.headers.get("retry-after")) >= 1);
    // Two retries, each after the time that Retry-After asks for; timers may fire a little early.
    assert.ok(performance.now() - began >= 1990, "Retry-After was not obeyed");
  },

  async rateLimitOfAStream() {
    await rejects(OpenAI.RateLimitError, () =>
      impatient.responses.create({ model: "demo-429", input: "hello", stream: true }),
    );
  },

  async serverErrors() {
    for (const model of ["demo-500", "demo-503"]) {
      const error = await rejects(OpenAI.InternalServerError, () =>
        impatient.responses.create({ model, input: "hello" }),
      );
      assert.ok(error.status >= 500);
      assert.ok(error.requestID, "the request id is not exposed");
    }
  },

  async brokenStreamsRaise() {
    const model = "demo-break";
    const calls = [
      () => impatient.responses.create({ model, input: "hello", stream: true }),
      () => impatient.chat.completions.create({ model, messages: hello, stream: true }),
    ];
    for (const call of calls) {
      const events = [];
      const error = await rejects(Error, async () => collect(await call(), events));
      assert.doesNotMatch(error.message, /^expected /);
      assert.ok(!events.some((event) => event.type === "response.completed"));
    }
  },

  async brokenAnswerRaises() {
    const error = await rejects(Error, () =>
      impatient.responses.create({ model: "demo-break", input: "hello" }),
    );
    assert.doesNotMatch(error.message, /^expected /);
  },

  async slowAnswer() {
    const slow = await client.responses.create({ model: "demo-slow", input: "hello" });
    assert.ok(slow.output_text);
    const hasty = client.withOptions({ maxRetries: 0, timeout: 500 });
    await rejects(OpenAI.APIConnectionTimeoutError, () =>
      hasty.responses.create({ model: "demo-slow", input: "hello" }),
    );
    const after = await client.responses.create({ model: "demo", input: "hello" });
    assert.ok(after.output_text);
  },

  async cancelAndGoOn() {
    for (let round = 0; round < 5; round++) {
      const stream = await client.responses.create({
        model: "demo-long",
        input: "hello",
        stream: true,
      });
      const kinds = [];
      for await (const event of stream) {
        kinds.push(event.type);
        if (kinds.length === 5) break;
      }
      assert.equal(kinds[0], "response.created");
      const after = await client.responses.create({ model: "demo", input: "hello" });
      assert.ok(after.output_text);
    }
  },

  async parallelStreams() {
    const one = async (number) => {
      const events = await collect(
        await client.responses.create({ model: "demo", input: `number ${number}.`, stream: true }),
      );
      assert.equal(events.at(-1).type, "response.completed");
      assert.ok(events.at(-1).response.output[0].content[0].text.endsWith(`number ${number}.`));
    };
    await Promise.all(Array.from({ length: 20 }, (_, number) => one(number)));
  },

  async xApiKeyBesideADummyBearer() {
    const withKeys = (bearer, key) =>
      new OpenAI({ baseURL, apiKey: bearer, defaultHeaders: { "X-API-Key": key } });
    const call = (caller) => caller.responses.create({ model: "demo", input: "hello" });
    assert.ok((await call(withKeys("unused", apiKey))).output_text);
    await rejects(OpenAI.AuthenticationError, () => call(withKeys(apiKey, "not-a-key")));
  },

  async headerFields() {
    const { data, response } = await client.responses
      .create(
        { model: "demo", input: "hello" },
        { headers: { "X-Request-ID": "chosen-by-the-client" } },
      )
      .withResponse();
    const { headers } = response;
    assert.equal(headers.get("x-request-id"), "chosen-by-the-client");
    assert.equal(data._request_id, "chosen-by-the-client");
    assert.equal(headers.get("x-relay-attempts"), "1");
    assert.equal(headers.get("openai-processing-ms"), "7");
    assert.equal(headers.get("openai-organization"), null);
    assert.equal(headers.get("set-cookie"), null);
  },
};

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  const began = performance.now();
  let verdict = "ok";
  try {
    await check();
  } catch (error) {
    console.log(error);
    failed += 1;
    verdict = "FAILED";
  }
  console.log(`${name} ... ${verdict} (${((performance.now() - began) / 1000).toFixed(1)} s)`);
}
const passed = Object.keys(checks).length - failed;
console.log(`openai-node ${VERSION}: ${passed} passed, ${failed} failed`);
process.exitCode = failed ? 1 : 0;
