// Checks objects of kinds that Kubernetes does not bring against what their projects publish:
//     node custom_resources.mjs FILE       FILE: a JSON list of objects
// Prints a JSON list of sentences, empty if there is nothing to object to.
//
// The packages of @kubernetes-models hold a validator for each kind, made from the types of the Prometheus operator, KEDA
// and the Gateway API. Those let a field pass that they do not know. Here it does not: a field that the validator never
// looks at is one that it does not know.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const OPERATOR = "prometheus-operator/_schemas/ComGithubPrometheusOperatorPrometheusOperatorPkgApisMonitoringV1";
const VALIDATORS = {
  "monitoring.coreos.com/v1 ServiceMonitor": `${OPERATOR}ServiceMonitor`,
  "monitoring.coreos.com/v1 PodMonitor": `${OPERATOR}PodMonitor`,
  "monitoring.coreos.com/v1 PrometheusRule": `${OPERATOR}PrometheusRule`,
  "keda.sh/v1alpha1 ScaledObject": "keda/_schemas/ComGithubKedacoreKedaV2ApisKedaV1alpha1ScaledObject",
  "gateway.networking.k8s.io/v1 GRPCRoute": "gateway-api/_schemas/IoK8sSigsGatewayApiApisV1GRPCRoute",
  "gateway.networking.k8s.io/v1 BackendTLSPolicy": "gateway-api/_schemas/IoK8sSigsGatewayApiApisV1BackendTLSPolicy",
};

/** A view of a value that notes the place of every field that is read through it. */
function watched(value, place, seen) {
  if (value === null || typeof value !== "object") return value;
  return new Proxy(value, {
    get(target, name) {
      if (typeof name === "symbol" || !Object.hasOwn(target, name)) return target[name];
      seen.add(`${place}/${name}`);
      return watched(target[name], `${place}/${name}`, seen);
    },
  });
}

/** The places of all fields below a value. */
function* places(value, place = "") {
  if (value === null || typeof value !== "object") return;
  for (const [name, each] of Object.entries(value)) {
    yield `${place}/${name}`;
    yield* places(each, `${place}/${name}`);
  }
}

async function objections(object) {
  const kind = `${object.apiVersion} ${object.kind}`;
  if (!(kind in VALIDATORS)) return [`${kind}: nothing is known of this kind`];
  const file = join(process.env.NODE_PATH, "@kubernetes-models", `${VALIDATORS[kind]}.js`);
  const { validate } = await import(pathToFileURL(file));
  const seen = new Set();
  validate(watched(object, "", seen));
  const faults = (validate.errors ?? []).map(({ instancePath, keyword }) => `${kind}: ${instancePath}: ${keyword}`);
  const unknown = [...places(object)].filter((place) => !seen.has(place));
  return [...faults, ...unknown.map((place) => `${kind}: ${place}: no such field`)];
}

const objects = JSON.parse(readFileSync(process.argv[2], "utf8"));
console.log(JSON.stringify((await Promise.all(objects.map(objections))).flat()));
