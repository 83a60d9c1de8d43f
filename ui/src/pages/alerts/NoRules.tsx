/** There are no rules: how to have some. */
import { Mark } from "../../widgets/Icon";

const CONFIG = `rule_files: ['rules/*.yml']
alerting:
  alertmanagers:
    - static_configs: [{targets: ['alertmanager:9093']}]`;

const RULES = `groups:
  - name: mesh
    rules:
      - alert: ManyErrors
        expr: >-
          sum by (destination_app) (rate(istio_requests_total{response_code=~"5.."}[1m]))
          / sum by (destination_app) (rate(istio_requests_total[1m])) > 0.05
        for: 2m
        labels: {severity: page}
        annotations:
          summary: "{{ $labels.destination_app }} fails {{ $value | humanizePercentage }}"`;

export function NoRules() {
  return (
    <div class="empty" role="status">
      <Mark size={52} />
      <h2>No rules</h2>
      <p>Pharos takes Prometheus' rule files as they are. Name them in its configuration, then reload it: SIGHUP, or POST to /-/reload.</p>
      <div class="snippets">
        <div class="snippet">
          <p>In the file of --config</p>
          <pre>{CONFIG}</pre>
        </div>
        <div class="snippet">
          <p>In rules/mesh.yml</p>
          <pre>{RULES}</pre>
        </div>
      </div>
    </div>
  );
}
