import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";
import { backend } from "./backend.mjs";
import { graphReady, launch, openPage } from "./browser.mjs";

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

let server;
let browser;
before(async () => {
  server = await backend();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.close();
});

const PAGES = [
  ["/graph", (page) => graphReady(page, 5)],
  ["/graph?view=table&replay=1", (page) => page.locator(".graph-table tbody tr").first().click()],
  ["/traces", (page) => page.locator(".trace-row").first().waitFor()],
  [
    "/traces?order=spans",
    async (page) => {
      await page.locator(".trace-row").first().click();
      await page.locator(".span-row").first().click();
      await page.locator('[data-panel="span"]').waitFor();
    },
  ],
  ["/logs", (page) => page.locator(".log-row:not(.head)").first().click()],
  ["/metrics", (page) => page.locator(".starting-points").waitFor()],
  ["/alerts", (page) => page.getByText(/\d+ rules? in|No rules/).first().waitFor()],
  ["/metrics?q=up", (page) => page.waitForLoadState("networkidle")],
];

for (const colorScheme of ["light", "dark"]) {
  describe(`axe finds nothing serious, ${colorScheme}`, () => {
    for (const [path, ready] of PAGES) {
      test(path, async () => {
        const { page, context } = await openPage(browser, { colorScheme, reducedMotion: "reduce" });
        await page.goto(server.url + path);
        await ready(page);
        await page.evaluate(axe);
        const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
        const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
        assert.deepEqual(
          serious.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map(({ html }) => html.slice(0, 120)).join(" | ")}`),
          [],
        );
        await context.close();
      });
    }
  });
}
