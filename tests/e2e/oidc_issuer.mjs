// An OpenID Connect provider (npm's oidc-provider) that gives access tokens by the client credentials grant:
//     node oidc_issuer.mjs PORT CONFIG-JSON       CONFIG: {keys, client, secret, scope, audience}
// `keys` is a JWKS of private keys; the first one signs. Prints "ready" when it listens.
// Tokens of the client "CLIENT-bound" are bound to the certificate (RFC 8705) that a proxy which ends TLS would hand on:
// x-client-cert, base64 of DER.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(import.meta.url);
const { default: Provider } = await import(pathToFileURL(require.resolve("oidc-provider")));

const [port, configuration] = process.argv.slice(2);
const { keys, client, secret, scope, audience } = JSON.parse(configuration);
const resource = `https://${audience}`; // resource indicators are URIs (RFC 8707)

const provider = new Provider(`http://127.0.0.1:${port}`, {
  jwks: { keys },
  clients: [client, `${client}-bound`].map((id) => ({
    client_id: id,
    client_secret: secret,
    grant_types: ["client_credentials"],
    redirect_uris: [],
    response_types: [],
    tls_client_certificate_bound_access_tokens: id !== client,
  })),
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    mTLS: {
      enabled: true,
      certificateBoundAccessTokens: true,
      getCertificate: (ctx) => ctx.get("x-client-cert"),
    },
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
