/** `POST /api/v1/sql`: one SQL statement over all tables. */
import { list, raw, record, string } from "./decode";
import { postJson } from "./door";

const answer = record({ columns: list(record({ name: string, type: string })), rows: list(list(raw)) });

export type SqlAnswer = ReturnType<typeof answer>;

export const runSql = (query: string, signal?: AbortSignal): Promise<SqlAnswer> => postJson("/api/v1/sql", { query }, answer, signal);
