/**
 * The only place that talks to the server. Every answer is decoded here; every failure becomes
 * one `ApiError` whose title says what kind of failure and whose detail says what was wrong.
 */
import { type Decode, DecodeError } from "./decode";

const TIMEOUT_MS = 30_000;

export type Params = Record<string, string | number | boolean | readonly string[] | null | undefined>;

export class ApiError extends Error {
  constructor(
    readonly title: string,
    readonly detail: string,
    /** HTTP status; 0 when no answer came. */
    readonly status: number,
  ) {
    super(`${title}: ${detail}`);
  }
}

export const isAbort = (error: unknown): boolean => error instanceof DOMException && error.name === "AbortError";

export function address(path: string, params: Params = {}): string {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(params)) {
    if (value === null || value === undefined || value === "") continue;
    if (Array.isArray(value)) for (const item of value) query.append(key, item);
    else query.set(key, String(value));
  }
  const text = query.toString();
  return text === "" ? path : `${path}?${text}`;
}

export function get<T>(path: string, params: Params, decode: Decode<T>, signal?: AbortSignal): Promise<T> {
  return send(address(path, params), {}, decode, signal);
}

/** A form post, for queries that may outgrow an address line (Prometheus accepts both). */
export function postForm<T>(path: string, params: Params, decode: Decode<T>, signal?: AbortSignal): Promise<T> {
  const body = address("", params).slice(1);
  const headers = { "content-type": "application/x-www-form-urlencoded" };
  return send(path, { method: "POST", body, headers }, decode, signal);
}

export function postJson<T>(path: string, body: unknown, decode: Decode<T>, signal?: AbortSignal): Promise<T> {
  const headers = { "content-type": "application/json" };
  return send(path, { method: "POST", body: JSON.stringify(body), headers }, decode, signal);
}

async function send<T>(url: string, init: RequestInit, decode: Decode<T>, signal?: AbortSignal): Promise<T> {
  const deadline = AbortSignal.timeout(TIMEOUT_MS);
  let response: Response;
  let text: string;
  try {
    response = await fetch(url, { ...init, signal: signal ? AbortSignal.any([signal, deadline]) : deadline });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    if (deadline.aborted) throw new ApiError("No answer in time", `${url} gave no answer in 30 s`, 0);
    throw new ApiError("Pharos cannot be reached", "The server does not answer. Is `pharos serve` running?", 0);
  }
  const body = parse(text);
  if (!response.ok) throw refusal(response, body, text);
  if (body === undefined) throw new ApiError("Unreadable answer", `${url} did not answer with JSON`, response.status);
  try {
    return decode(body, url.split("?")[0]!.replace(/^\/api\//, ""));
  } catch (error) {
    if (error instanceof DecodeError) throw new ApiError("Unexpected answer", error.message, response.status);
    throw error;
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Reads the error forms of problem+json, Prometheus, Jaeger legacy and Jaeger v3. */
function refusal(response: Response, body: unknown, text: string): ApiError {
  const found = (body ?? {}) as Record<string, any>;
  const detail =
    found.detail ?? found.error?.message ?? (typeof found.error === "string" ? found.error : undefined) ?? found.errors?.[0]?.msg;
  const title = found.title ?? found.errorType ?? (response.status < 500 ? "The request was refused" : "The server failed");
  return new ApiError(String(title), String(detail ?? (text.slice(0, 300) || response.statusText)), response.status);
}
