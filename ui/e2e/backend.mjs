// The server under test: the one that PHAROS_URL names, or generated data from dev/.
import { startFixture } from "../dev/fixture-server.mjs";
import { eventually } from "./browser.mjs";

/** Most pages load once: what the tests look for has to be there before. */
const COMPLETE_TRACES = "select count(*) from (select trace_id from spans group by trace_id having count(*) = 9)";

async function trafficOnEveryEdge(url) {
  await eventually("requests that passed every hop", async () => {
    const body = JSON.stringify({ query: COMPLETE_TRACES });
    const answer = await fetch(`${url}/api/v1/sql`, { method: "POST", headers: { "content-type": "application/json" }, body });
    return answer.ok && (await answer.json()).rows[0][0] > 30 ? true : null;
  });
}

/** Resolves to `{ url, isFixture, close }`. */
export async function backend(scenario = "bookinfo") {
  if (process.env.PHAROS_URL && scenario === "bookinfo") {
    await trafficOnEveryEdge(process.env.PHAROS_URL);
    return { url: process.env.PHAROS_URL, isFixture: false, close: async () => {} };
  }
  if (process.env.PHAROS_EMPTY_URL && scenario === "empty") return { url: process.env.PHAROS_EMPTY_URL, isFixture: false, close: async () => {} };
  return { ...(await startFixture({ scenario })), isFixture: true };
}
