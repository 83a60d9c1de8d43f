/** Settings to copy, with the addresses that this server really listens on. */
export interface Snippet {
  title: string;
  explain: string;
  text: (address: (listener: string, fallback: string) => string) => string;
}

export const SNIPPETS: Record<string, Snippet> = {
  demo: {
    title: "Demo",
    explain: "Starts a whole mesh on this machine, with traffic, and sends all of it here. No cluster needed.",
    text: () => "pharos demo",
  },
  istio: {
    title: "Istio",
    explain: "Access logs and traces of every sidecar: name Pharos as a provider in the mesh config, then switch it on.",
    text: (address) => {
      const [host, port] = hostAndPort(address("otlp-grpc", "pharos.observability.svc:4317"));
      return `# meshConfig
extensionProviders:
- name: pharos-logs
  envoyHttpAls: { service: ${host}, port: ${port} }
- name: pharos-traces
  opentelemetry: { service: ${host}, port: ${port} }
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: { name: pharos, namespace: istio-system }
spec:
  accessLogging: [{ providers: [{ name: pharos-logs }] }]
  tracing: [{ providers: [{ name: pharos-traces }], randomSamplingPercentage: 100 }]`;
    },
  },
  prometheus: {
    title: "Prometheus",
    explain: "An existing Prometheus that scrapes the mesh passes its samples on by remote write.",
    text: (address) => `remote_write:
- url: http://${address("prometheus", "127.0.0.1:9090")}/api/v1/write`,
  },
  collector: {
    title: "OpenTelemetry Collector",
    explain: "Traces, metrics and logs by OTLP.",
    text: (address) => `exporters:
  otlp/pharos:
    endpoint: ${address("otlp-grpc", "127.0.0.1:4317")}
    tls: { insecure: true }
service:
  pipelines:
    traces: { receivers: [otlp], exporters: [otlp/pharos] }
    metrics: { receivers: [otlp], exporters: [otlp/pharos] }
    logs: { receivers: [otlp], exporters: [otlp/pharos] }`,
  },
  sdk: {
    title: "OpenTelemetry SDK",
    explain: "Any program with an OpenTelemetry SDK: set these in its environment.",
    text: (address) => `OTEL_EXPORTER_OTLP_ENDPOINT=http://${address("otlp-http", "127.0.0.1:4318")}
OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf
OTEL_SERVICE_NAME=my-service`,
  },
  zipkin: {
    title: "Zipkin",
    explain: "Proxies and programs that speak Zipkin v2.",
    text: (address) => `http://${address("zipkin", "127.0.0.1:9411")}/api/v2/spans`,
  },
};

function hostAndPort(address: string): [host: string, port: string] {
  const at = address.lastIndexOf(":");
  return [address.slice(0, at), address.slice(at + 1)];
}
