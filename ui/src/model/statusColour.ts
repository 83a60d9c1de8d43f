/** Colours of response codes: a palette of its own, apart from health. */
export function codeColour(code: string | number): string {
  const text = String(code);
  if (/^2\d\d$/.test(text)) return "--code-2xx";
  if (/^3\d\d$/.test(text)) return "--code-3xx";
  if (/^4\d\d$/.test(text)) return "--code-4xx";
  if (/^5\d\d$/.test(text)) return "--code-5xx";
  // gRPC statuses: 0 is success when it comes alone, as one digit.
  if (/^([1-9]|1[0-6])$/.test(text)) return "--code-5xx";
  return "--code-none";
}
