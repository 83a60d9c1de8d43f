// The server under test: the one that PHAROS_URL names, or generated data from dev/.
import { startFixture } from "../dev/fixture-server.mjs";

/** Resolves to `{ url, isFixture, close }`. */
export async function backend(scenario = "bookinfo") {
  if (process.env.PHAROS_URL && scenario === "bookinfo") return { url: process.env.PHAROS_URL, isFixture: false, close: async () => {} };
  if (process.env.PHAROS_EMPTY_URL && scenario === "empty") return { url: process.env.PHAROS_EMPTY_URL, isFixture: false, close: async () => {} };
  return { ...(await startFixture({ scenario })), isFixture: true };
}
