use std::sync::Arc;

use pharos_model::{AccessLog, Attributes, LogRecord, Scope, Severity, SpanId, TraceId, UnixNanos};
use pharos_proto::otlp::{collector::logs::v1::ExportLogsServiceRequest, logs::v1::LogRecord as OtlpLog};

use super::{
    trace::{scope, service_and_resource},
    value::{attributes, value},
};
use crate::{clock::record_time, envoy, intake::Normalised};

/// Application log records, and the access logs among them, which Envoy sends as log records too.
pub(super) fn records(
    request: ExportLogsServiceRequest,
    now: UnixNanos,
) -> (Normalised<LogRecord>, Vec<AccessLog>) {
    let mut logs = Normalised::default();
    let mut access_logs = Vec::new();
    for resource_logs in request.resource_logs {
        let (service, resource) = service_and_resource(resource_logs.resource);
        for scope_logs in resource_logs.scope_logs {
            let scope = scope(scope_logs.scope);
            for otlp in scope_logs.log_records {
                let record = match record(otlp, now, &service, &resource, &scope) {
                    Ok(record) => record,
                    Err(fault) => {
                        logs.rejected.add(1, || fault);
                        continue;
                    }
                };
                match envoy::access_log_of_record(&record) {
                    Some(access_log) => access_logs.push(access_log),
                    None => logs.rows.push(record),
                }
            }
        }
    }
    (logs, access_logs)
}

/// Whatever a record lacks has a meaning of its own in OpenTelemetry's log model.
fn record(
    otlp: OtlpLog,
    now: UnixNanos,
    service: &Arc<str>,
    resource: &Arc<Attributes>,
    scope: &Arc<Scope>,
) -> Result<LogRecord, String> {
    let time = |name: &str, unix_nano: u64| match unix_nano {
        0 => Ok(None),
        _ => record_time(unix_nano, now).map(Some).map_err(|fault| format!("log record: {name} {fault}")),
    };
    let observed = time("observed_time_unix_nano", otlp.observed_time_unix_nano)?.unwrap_or(now);
    Ok(LogRecord {
        time: time("time_unix_nano", otlp.time_unix_nano)?.unwrap_or(observed),
        observed,
        severity: Severity(u8::try_from(otlp.severity_number).unwrap_or(0)),
        severity_text: otlp.severity_text,
        body: value(otlp.body),
        event_name: otlp.event_name,
        trace_id: TraceId::from_slice(&otlp.trace_id).filter(|id| !id.is_zero()),
        span_id: SpanId::from_slice(&otlp.span_id).filter(|id| !id.is_zero()),
        flags: otlp.flags,
        service: service.clone(),
        resource: resource.clone(),
        scope: scope.clone(),
        attributes: attributes(otlp.attributes),
    })
}
