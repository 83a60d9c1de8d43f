"""Sends one trace, one log record and one counter by the unmodified OpenTelemetry SDK.

usage: otel_sdk.py grpc|http ENDPOINT; prints the trace id.
"""
import logging
import sys

from opentelemetry import metrics, trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

protocol, endpoint = sys.argv[1:]
if protocol == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    options = {signal: {"endpoint": endpoint, "insecure": True} for signal in ("traces", "logs", "metrics")}
else:
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    options = {signal: {"endpoint": f"{endpoint}/v1/{signal}"} for signal in ("traces", "logs", "metrics")}

resource = Resource.create({"service.name": f"sdk-{protocol}", "service.namespace": "tests"})

tracer_provider = TracerProvider(resource=resource)
tracer_provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(**options["traces"])))
trace.set_tracer_provider(tracer_provider)

logger_provider = LoggerProvider(resource=resource)
logger_provider.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(**options["logs"])))
set_logger_provider(logger_provider)

reader = PeriodicExportingMetricReader(OTLPMetricExporter(**options["metrics"]))
meter_provider = MeterProvider(resource=resource, metric_readers=[reader])
metrics.set_meter_provider(meter_provider)

with trace.get_tracer("tests").start_as_current_span("checkout") as span:
    span.set_attribute("cart.items", 3)
    with trace.get_tracer("tests").start_as_current_span("charge", kind=trace.SpanKind.CLIENT):
        logging.getLogger("tests").addHandler(LoggingHandler(logger_provider=logger_provider))
        logging.getLogger("tests").error("card declined")
    print(format(span.get_span_context().trace_id, "032x"))
metrics.get_meter("tests").create_counter("sdk.orders").add(7, {"protocol": protocol})

meter_provider.shutdown()
logger_provider.shutdown()
tracer_provider.shutdown()
