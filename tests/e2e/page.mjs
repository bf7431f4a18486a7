// Reads one stream as the fragment of the address says, and tells the server that the page is from what it saw.
import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

const asked = JSON.parse(decodeURIComponent(location.hash.slice(1)));
const leaving = new AbortController();
const events = [];

function see(kind, text) {
  events.push([kind, text ?? ""]);
  if (events.length === asked.leave_after) leaving.abort();
}

async function byGrpcWeb() {
  const octets = await (await fetch("/descriptors.binpb")).arrayBuffer();
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, new Uint8Array(octets)));
  const service = registry.getService("sluicegate.v1.GenerationService");
  const client = createClient(service, createGrpcWebTransport({ baseUrl: asked.base }));
  const request = {
    model: asked.model,
    prompt: { case: "text", value: asked.text },
    config: { maxOutputTokens: asked.tokens, seed: BigInt(asked.seed) },
  };
  try {
    const options = { headers: { authorization: `Bearer ${asked.token}` }, signal: leaving.signal };
    for await (const { event } of client.streamGenerate(request, options)) see(event.case, event.value.text);
    return { code: "OK" };
  } catch (error) {
    const failed = ConnectError.from(error);
    const [info] = failed.findDetails(registry.getMessage("google.rpc.ErrorInfo"));
    return { code: Code[failed.code], reason: info?.reason, text: failed.rawMessage };
  }
}

async function byRest() {
  const response = await fetch(`${asked.base}/v1/models/${asked.model}:streamGenerate`, {
    method: "POST",
    headers: { authorization: `Bearer ${asked.token}`, "content-type": "application/json" },
    body: JSON.stringify({ text: asked.text, config: { maxOutputTokens: asked.tokens, seed: asked.seed } }),
    signal: leaving.signal,
  });
  if (!response.ok) {
    const [info] = (await response.json()).details;
    return { code: response.status, reason: info.reason };
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (let { value, done } = await reader.read(); !done; { value, done } = await reader.read()) {
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const message of lines.filter(Boolean).map((line) => JSON.parse(line))) {
      const kind = ["started", "delta", "finished"].find((name) => name in message);
      see(kind, message[kind].text);
    }
  }
  return { code: response.status };
}

const ended = await { grpc_web: byGrpcWeb, rest: byRest }[asked.way]().catch((error) => ({ error: String(error) }));
await fetch("/told", { method: "POST", body: JSON.stringify({ events, ...ended }) });
