import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import { backend } from "./backend.mjs";
import { eventually, graphReady, launch, openPage } from "./browser.mjs";

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

/** Runs `check` on a page of the server, and fails on anything the console complains about. */
async function onPage(path, check, options) {
  const { page, context, problems } = await openPage(browser, options);
  try {
    await page.goto(server.url + path);
    await check(page);
    assert.deepEqual(problems, []);
  } finally {
    await context.close();
  }
}

const titles = (page) => page.evaluate(() => window.__graph.nodes().map(({ title }) => title));

/** The middle of the edge between two workloads, in page coordinates. Requests that reach none end at a service. */
const edgeBetween = (page, from, to) =>
  page.evaluate(
    ([from, to]) => {
      const workloads = window.__graph.nodes().filter(({ subtitle }) => subtitle !== "service");
      const name = new Map(workloads.map(({ id, title }) => [id, title]));
      return window.__graph.edges().find(({ source, target }) => name.get(source) === from && name.get(target) === to);
    },
    [from, to],
  );

describe("graph", () => {
  test("shows who calls whom, callers left of callees", () =>
    onPage("/graph?ns=bookinfo", async (page) => {
      await graphReady(page, 6);
      const found = await titles(page);
      for (const app of ["productpage", "details", "reviews", "ratings"]) assert.ok(found.includes(app), `${app} in ${found}`);
      // Nodes move to their places, and calls to ratings may be new. What never reached ratings is drawn apart.
      await page.waitForFunction(() => {
        const node = new Map(window.__graph.nodes().map((node) => [node.id, node]));
        const calls = window.__graph.edges().map(({ source, target }) => [node.get(source), node.get(target)]);
        const has = (from, to) => calls.some(([caller, callee]) => caller.title === from && callee.title === to);
        const isInOrder = calls.every(([caller, callee]) => caller.x < callee.x);
        return isInOrder && has("productpage", "reviews") && has("reviews", "ratings");
      });
    }));

  test("traffic moves, and stands still when paused", () =>
    onPage("/graph", async (page) => {
      await graphReady(page, 6);
      await page.waitForFunction(() => window.__graph.dotsDrawn() > 0);
      const picture = () => page.evaluate(() => document.querySelector("canvas[data-layer=traffic]").toDataURL());
      const first = await picture();
      await page.waitForFunction((before) => document.querySelector("canvas[data-layer=traffic]").toDataURL() !== before, first);
      await page.keyboard.press("p");
      await page.waitForFunction(() => window.__graph.dotsDrawn() === 0);
    }));

  test("reduced motion is honoured", () =>
    onPage(
      "/graph",
      async (page) => {
        await graphReady(page, 6);
        const frames = await page.evaluate(() => window.__graph.frames());
        await page.waitForFunction((before) => window.__graph.frames() > before + 20, frames);
        assert.equal(await page.evaluate(() => window.__graph.dotsDrawn()), 0);
      },
      { reducedMotion: "reduce" },
    ));

  test("a click on an edge opens its figures, codes, flags and both proxies' views", () =>
    onPage("/graph", async (page) => {
      await graphReady(page, 6);
      const panel = page.locator('[data-panel="edge"]').filter({ hasText: "ratings" });
      await eventually("the panel of the edge from reviews to ratings", async () => {
        if ((await panel.count()) > 0) return true;
        // Nodes move to their places, and their edges with them.
        const edge = await edgeBetween(page, "reviews", "ratings");
        if (edge) await page.mouse.click(edge.x, edge.y);
        return null;
      });
      for (const part of ["reviews", "ratings", "Rate", "Errors", "p95", "Response codes", "Response flags", "Both proxies"]) {
        await panel.getByText(part).first().waitFor();
      }
      assert.match(page.url(), /sel=e:/);
      await panel.locator(".chart canvas").first().waitFor();
      await page.getByRole("radio", { name: "Logs" }).click();
      await panel.locator(".request").first().waitFor();
      await page.getByRole("radio", { name: "Traces" }).click();
      // Of the newest, spans may be missing still.
      await panel.locator(".request").first().waitFor();
      await panel.locator(".request").last().click();
      await page.locator(".span-row").first().waitFor();
      assert.match(page.url(), /\/traces\/[0-9a-f]+/);
    }));

  test("find makes others step back, hide takes away", () =>
    onPage("/graph?hide=name:details*", async (page) => {
      await graphReady(page, 5);
      assert.ok(!(await titles(page)).includes("details"));
      await page.getByRole("combobox", { name: "Find" }).fill("source:reviews");
      await page.getByText(/\d+ found/).waitFor();
      await page.getByRole("combobox", { name: "Find" }).fill("colour:red");
      await page.getByText("unknown key “colour”").waitFor();
    }));

  test("all by keyboard: to a node, its details, and back", () =>
    onPage("/graph", async (page) => {
      await graphReady(page, 6);
      await page.locator(".graph-canvas").focus();
      for (let step = 0; step < 3; step += 1) await page.keyboard.press("ArrowRight");
      await page.keyboard.press("Enter");
      await page.locator('[data-panel="node"]').waitFor();
      await page.keyboard.press("Escape");
      await page.locator('[data-panel="node"]').waitFor({ state: "detached" });
      await page.keyboard.press("g");
      await page.keyboard.press("l");
      await page.waitForURL(/\/logs/);
      await page.keyboard.press("?");
      await page.getByRole("heading", { name: "Keys" }).waitFor();
    }));

  test("the table holds the same edges", () =>
    onPage("/graph", async (page) => {
      await graphReady(page, 6);
      await eventually("a row for each edge", async () => {
        await page.getByRole("radio", { name: "Graph", exact: true }).click();
        await graphReady(page, 6);
        const edges = await page.evaluate(() => window.__graph.edges().length);
        await page.getByRole("radio", { name: "Table" }).click();
        await page.locator(".graph-table tbody tr").first().waitFor();
        // A first call may come in between.
        return (await page.locator(".graph-table tbody tr").count()) === edges ? true : null;
      });
      await page.locator(".graph-table tbody tr").first().click();
      await page.locator('[data-panel="edge"]').waitFor();
    }));

  test("graph types and service nodes change the graph", () =>
    onPage("/graph?type=app", async (page) => {
      await graphReady(page, 4);
      const apps = await page.evaluate(() => window.__graph.nodes().filter(({ subtitle }) => subtitle !== "service"));
      assert.equal(apps.filter(({ title }) => title === "reviews").length, 1);
      await page.goto(`${server.url}/graph?svc=1`);
      await graphReady(page, 9);
      const subtitles = await page.evaluate(() => window.__graph.nodes().map(({ subtitle }) => subtitle));
      assert.ok(subtitles.includes("service"));
    }));

  test("a position survives a refresh", () =>
    onPage("/graph?refresh=2", async (page) => {
      await graphReady(page, 6);
      const places = () => page.evaluate(() => Object.fromEntries(window.__graph.nodes().map(({ id, x, y }) => [id, `${Math.round(x)},${Math.round(y)}`])));
      // At first nodes move to their places.
      await eventually("a refresh that moves nothing", async () => {
        const before = await places();
        await page.waitForResponse(/api\/v1\/graph/);
        await page.waitForResponse(/api\/v1\/graph/);
        return isDeepStrictEqual(await places(), before) ? true : null;
      });
    }));

  test("replay asks for the past", () =>
    onPage("/graph?replay=1", async (page) => {
      await graphReady(page, 6);
      const asked = page.waitForRequest((request) => /api\/v1\/graph.*queryTime=\d+/.test(request.url()));
      await page.getByRole("slider", { name: "Instant to show" }).evaluate((slider) => {
        slider.value = String(Number(slider.max) - 60);
        slider.dispatchEvent(new Event("input", { bubbles: true }));
      });
      await asked;
      assert.match(page.url(), /at=\d+/);
    }));

  test("dark theme: by the system, and by choice", () =>
    onPage(
      "/graph",
      async (page) => {
        await graphReady(page, 6);
        const theme = () => page.evaluate(() => document.documentElement.dataset.theme);
        assert.equal(await theme(), "dark");
        await page.getByRole("button", { name: "Use the light theme" }).click();
        assert.equal(await theme(), "light");
        await page.reload();
        await graphReady(page, 6);
        assert.equal(await theme(), "light");
      },
      { colorScheme: "dark" },
    ));
});
