// Pictures of every page, light and dark: `npm run screenshots -- DIR`. PHAROS_URL names a backend.
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { backend } from "./backend.mjs";
import { graphReady, launch, openPage } from "./browser.mjs";

const folder = process.argv[2] ?? "screenshots";
await mkdir(folder, { recursive: true });

const clickEdge = async (page, from, to) => {
  const edge = await page.evaluate(
    ([from, to]) => {
      const name = new Map(window.__graph.nodes().map(({ id, title }) => [id, title]));
      const fits = window.__graph.edges().filter(({ source, target }) => name.get(source) === from && name.get(target) === to);
      return fits.sort((a, b) => b.errorShare - a.errorShare)[0];
    },
    [from, to],
  );
  if (!edge) return;
  await page.mouse.click(edge.x, edge.y);
  await page.locator(".side .chart canvas").first().waitFor();
  await page.mouse.move(5, 5);
};

// Charts and traffic need a moment to look alive; nothing is asserted here.
const settle = (page) => page.waitForTimeout(1500);

const SHOTS = [
  ["graph", "/graph", (page) => graphReady(page, 5)],
  ["graph-edge", "/graph", async (page) => (await graphReady(page, 5), await clickEdge(page, "reviews", "ratings"))],
  ["graph-services", "/graph?svc=1", (page) => graphReady(page, 8)],
  ["graph-replay", "/graph?replay=1&d=1m", (page) => graphReady(page, 5)],
  ["graph-table", "/graph?view=table", (page) => page.locator(".graph-table tbody tr").first().waitFor()],
  ["traces", "/traces?order=errors", (page) => page.locator(".trace-row").first().waitFor()],
  [
    "trace",
    "/traces?order=errors",
    async (page) => {
      await page.locator(".trace-row").first().click();
      await page.locator(".span-row").first().waitFor();
      await page.getByText(/access-log rows? of this trace/).waitFor();
    },
  ],
  ["logs", "/logs", (page) => page.locator(".log-row:not(.head)").first().waitFor()],
  ["logs-faults", "/logs?q=flag:*I", (page) => page.locator(".log-row:not(.head)").first().click()],
  [
    "metrics",
    `/metrics?d=15m&q=${encodeURIComponent('sum by (destination_workload) (rate(istio_requests_total{reporter="source"}[1m]))')}`,
    (page) => page.locator(".chart-plot canvas").waitFor(),
  ],
];

const alertsReady = (page) => page.locator(".rule-group").first().waitFor();

const server = await backend();
const extra = server.isFixture
  ? [
      ["", "alerts", "/alerts", alertsReady],
      ["", "alerts-open", "/alerts", async (page) => (await alertsReady(page), await page.getByText("ManyErrors").click(), await page.getByText("Joins").click())],
      ["large", "alerts-300", "/alerts", alertsReady],
      ["empty", "alerts-empty", "/alerts", (page) => page.getByText("No rules").waitFor()],
      ["failing", "alerts-failing", "/alerts", (page) => page.getByRole("alert").first().waitFor()],
      ["large", "graph-1000-folded", "/graph", (page) => graphReady(page, 30)],
      ["large", "graph-1000-open", "/graph?open=*", (page) => graphReady(page, 1000)],
      ["empty", "empty", "/graph", (page) => page.locator(".snippet").waitFor()],
      ["failing", "failing", "/graph", (page) => page.getByRole("alert").first().waitFor()],
    ]
  : [];
const browser = await launch();
for (const colorScheme of ["light", "dark"]) {
  for (const [scenario, name, path, ready] of [...SHOTS.map((shot) => ["", ...shot]), ...extra]) {
    const at = scenario === "" ? server : await backend(scenario);
    const { page, context, problems } = await openPage(browser, { colorScheme });
    // The first-run hint has been read.
    await page.addInitScript(() => localStorage.setItem("pharos.hint", "seen"));
    try {
      await page.goto(at.url + path);
      await ready(page);
      await settle(page);
      await page.screenshot({ path: join(folder, `${name}-${colorScheme}.png`) });
      console.log(`${name}-${colorScheme}.png${problems.length > 0 && scenario !== "failing" ? `  console: ${problems[0]}` : ""}`);
    } catch (error) {
      console.error(`${name}-${colorScheme}: ${String(error).split("\n")[0]}`);
      process.exitCode = 1;
    }
    await context.close();
    if (at !== server) await at.close();
  }
}
await browser.close();
await server.close();
