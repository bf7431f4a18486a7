// A client of @grpc/grpc-js that knows the API by reflection only:
//     node node_client.js ADDRESS list
//     node node_client.js ADDRESS call SERVICE/METHOD REQUEST-JSON [TOKEN]
// Prints one JSON object: {services}, or {messages, code, text, details}.
const grpc = require("@grpc/grpc-js");
const { GrpcReflection } = require("grpc-js-reflection-client");

const [address, command, path, request, token] = process.argv.slice(2);
const credentials = grpc.credentials.createInsecure();
const reflection = new GrpcReflection(address, credentials);
const json = { longs: String, enums: String, oneofs: true };

async function main() {
  if (command === "list") {
    return { services: await reflection.listServices() };
  }
  const { messages, status } = await call();
  const [raw] = status.metadata?.get("grpc-status-details-bin") ?? [];
  return { messages, code: status.code, text: status.details, details: raw ? await decoded(raw) : [] };
}

// With protobufjs' own types: the reflection client's getPackageObject stumbles over custom method options.
async function call() {
  const [service, name] = path.split("/");
  const method = (await root(service)).lookupService(service).methods[name].resolve();
  const { resolvedRequestType: Request, resolvedResponseType: Response } = method;
  const client = new grpc.Client(address, credentials);
  const metadata = new grpc.Metadata();
  if (token !== undefined) metadata.set("authorization", `Bearer ${token}`);
  const begin = method.responseStream ? "makeServerStreamRequest" : "makeUnaryRequest";
  const encode = (message) => Buffer.from(Request.encode(message).finish());
  const decode = (bytes) => Response.toObject(Response.decode(bytes), json);
  const messages = [];
  const take = (_error, message) => message && messages.push(message);
  const running = client[begin](`/${path}`, encode, decode, Request.fromObject(JSON.parse(request)), metadata, take);
  if (method.responseStream) {
    running.on("data", (message) => messages.push(message));
    running.on("error", () => {}); // the status says the same
  }
  const status = await new Promise((resolve) => running.on("status", resolve));
  client.close();
  return { messages, status };
}

// The details are google.rpc messages, whose descriptors the server gives too.
async function decoded(raw) {
  const Status = (await root("google.rpc.Status")).lookupType("google.rpc.Status");
  return Promise.all(
    Status.decode(raw).details.map(async ({ typeUrl, value }) => {
      const type = typeUrl.split("/")[1];
      const Detail = (await root(type)).lookupType(type);
      return { type, ...Detail.toObject(Detail.decode(value), json) };
    }),
  );
}

async function root(symbol) {
  return (await reflection.getDescriptorBySymbol(symbol)).getProtobufJsRoot();
}

main().then(
  (result) => console.log(JSON.stringify(result)),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
