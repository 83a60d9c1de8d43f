/** `GET /api/v1/status`: what listens, what arrived, what is stored. */
import { list, nullable, number, or, record, string } from "./decode";
import { get } from "./door";

const status = record({
  version: or(string, ""),
  uptimeS: or(number, 0),
  listeners: list(record({ name: string, address: string })),
  received: list(
    record({ protocol: string, items: or(number, 0), rejected: or(number, 0), lastUnixMs: nullable(number) }),
  ),
  tables: list(
    record({
      name: string,
      rows: or(number, 0),
      bytes: or(number, 0),
      files: or(number, 0),
      oldestUnixMs: nullable(number),
      newestUnixMs: nullable(number),
    }),
  ),
  memoryBytes: or(number, 0),
});

export type Status = ReturnType<typeof status>;

export const fetchStatus = (signal?: AbortSignal): Promise<Status> => get("/api/v1/status", {}, status, signal);
