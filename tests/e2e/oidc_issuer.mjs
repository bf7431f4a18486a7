// An OpenID Connect provider (npm's oidc-provider) that gives access tokens by the client credentials grant:
//     node oidc_issuer.mjs PORT CONFIG-JSON       CONFIG: {keys, client, secret, scope, audience}
// `keys` is a JWKS of private keys; the first one signs. Prints "ready" when it listens.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(import.meta.url);
const { default: Provider } = await import(pathToFileURL(require.resolve("oidc-provider")));

const [port, configuration] = process.argv.slice(2);
const { keys, client, secret, scope, audience } = JSON.parse(configuration);
const resource = `https://${audience}`; // resource indicators are URIs (RFC 8707)

const provider = new Provider(`http://127.0.0.1:${port}`, {
  jwks: { keys },
  clients: [
    {
      client_id: client,
      client_secret: secret,
      grant_types: ["client_credentials"],
      redirect_uris: [],
      response_types: [],
    },
  ],
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => resource,
      getResourceServerInfo: () => ({
        scope,
        audience,
        accessTokenFormat: "jwt",
        accessTokenTTL: 600,
        jwt: { sign: { alg: "RS256" } },
      }),
    },
  },
});
provider.listen(Number(port), "127.0.0.1", () => console.log("ready"));
