import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
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

async function onPage(path, check, url = server.url) {
  const { page, context, problems } = await openPage(browser);
  try {
    await page.goto(url + path);
    await check(page);
    assert.deepEqual(problems, []);
  } finally {
    await context.close();
  }
}

describe("traces", () => {
  test("search, then a waterfall with every hop and its access-log rows", () =>
    onPage("/traces", async (page) => {
      await page.locator(".scatter canvas").waitFor();
      await page.getByLabel("Order").selectOption("spans");
      await page.waitForURL(/order=spans/);
      // The list of the order before may be there still.
      await page.reload();
      // Of the newest, spans and rows may be missing still.
      await page.locator(".trace-row").nth(5).click();
      await page.locator(".span-row").first().waitFor();
      const spans = await page.locator(".span-row").count();
      assert.ok(spans >= 5, `${spans} spans`);
      const words = await page.locator(".waterfall").innerText();
      for (const app of ["ingressgateway", "productpage", "details", "reviews", "ratings"]) assert.ok(words.includes(app), `${app} in the waterfall`);
      await page.getByText(/[1-9]\d* access-log rows? of this trace/).waitFor();
      let withRows = 0;
      for (let index = 0; index < spans; index += 1) {
        await page.locator(".span-row").nth(index).click();
        await page.locator('[data-panel="span"]').waitFor();
        if ((await page.locator(".log-card").count()) > 0) withRows += 1;
      }
      assert.ok(withRows >= 4, `${withRows} of ${spans} hops have access-log rows`);
    }));

  test("the search narrows by service, and names what it cannot read", () =>
    onPage("/traces", async (page) => {
      await page.locator(".trace-row").first().waitFor();
      const service = await page.getByLabel("Service", { exact: true }).evaluate((select) => [...select.options].map(({ value }) => value).find((value) => value.includes("ratings")));
      await page.getByLabel("Service", { exact: true }).selectOption(service);
      await page.waitForURL(/service=/);
      await page.locator(".trace-row").first().waitFor();
      const box = page.getByRole("combobox", { name: "Attributes and duration, or a trace id" });
      await box.fill("status:5xx");
      await box.press("Enter");
      await page.getByText("status takes one code here").waitFor();
    }));

  test("a trace that is not there says so", async () => {
    const { page, context } = await openPage(browser);
    await page.goto(`${server.url}/traces/00000000000000000000000000000001`);
    await page.getByText("No such trace").waitFor();
    await context.close();
  });
});

describe("logs", () => {
  test("filter, row details, and on to the trace", () =>
    onPage("/logs?q=dest:ratings*", async (page) => {
      const rows = page.locator(".log-row:not(.head)");
      await rows.first().waitFor();
      const callees = await page.locator(".log-row:not(.head) > :nth-child(7)").allInnerTexts();
      assert.ok(callees.every((callee) => callee.startsWith("ratings")), callees.join());
      await page.locator(".histogram .bucket i").first().waitFor();
      // Of the newest, spans may be missing still.
      await rows.last().click();
      await page.locator('[data-panel="log-row"]').waitFor();
      await page.getByRole("link", { name: "Open its trace" }).click();
      await page.locator(".span-row").first().waitFor();
    }));

  test("a bad filter is named, completion offers keys", () =>
    onPage("/logs", async (page) => {
      const box = page.getByRole("combobox", { name: "Filter" });
      await box.fill("colour:red");
      await page.getByRole("alert").getByText("unknown key “colour”").waitFor();
      await box.fill("sta");
      await page.getByRole("option", { name: /status/ }).click();
      await box.pressSequentially("200");
      await page.waitForURL(/q=status:200/);
      await page.locator(".log-row:not(.head)").first().waitFor();
    }));

  test("the live tail brings new rows, and can be paused", () =>
    onPage("/logs?live=1", async (page) => {
      await page.locator(".log-row:not(.head)").first().waitFor();
      await page.getByRole("button", { name: "Pause" }).click();
      await page.getByRole("button", { name: /Go on, [1-9]/ }).click();
      await page.getByRole("button", { name: "Pause" }).waitFor();
    }));
});

describe("metrics", () => {
  test("a query draws lines and fills the table", () =>
    onPage("/metrics", async (page) => {
      await page.getByRole("button", { name: /Requests per second, by response code/ }).click();
      await page.locator(".chart-plot canvas").waitFor();
      await page.locator(".series-table tbody tr").first().waitFor();
      const drawn = await page.locator(".chart-plot canvas").evaluate((canvas) => {
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return data.some((value, index) => index % 4 === 3 && value > 0);
      });
      assert.ok(drawn);
    }));

  test("names complete as one types", () =>
    onPage("/metrics", async (page) => {
      const box = page.getByRole("combobox", { name: "PromQL" });
      await box.pressSequentially("istio_requests");
      await page.getByRole("option", { name: /istio_requests_total/ }).click();
      await box.pressSequentially("{repo");
      await page.getByRole("option", { name: "reporter" }).click();
      await page.getByRole("option", { name: "source" }).first().click();
      assert.equal(await box.inputValue(), 'istio_requests_total{reporter="source"');
    }));

  test("a bad query shows the server's words", async () => {
    const { page, context } = await openPage(browser);
    await page.goto(`${server.url}/metrics?q=sum(`);
    await page.getByRole("alert").waitFor();
    assert.match(await page.getByRole("alert").first().innerText(), /parse|expected|unexpected/i);
    await context.close();
  });
});

describe("alerts", () => {
  test("rules are listed by group, open to their alerts, and are narrowed by state and words", async (t) => {
    if (!server.isFixture) return t.skip("a live server has rules of its own");
    await onPage("/alerts", async (page) => {
      const rows = page.locator("details.rule");
      await rows.first().waitFor();
      assert.equal(await rows.count(), 5);
      await page.locator("summary", { hasText: "ManyErrors" }).click();
      const alerts = page.locator("details[open] .alert-table tbody tr");
      assert.equal(await alerts.count(), 2);
      assert.match(await alerts.first().innerText(), /Firing[^]*ratings-v1[^]*21m ago[^]*0\.127/);
      await page.getByRole("button", { name: /Failing 1/ }).click();
      await page.waitForURL(/show=failing/);
      assert.equal(await rows.count(), 1);
      await rows.first().click();
      await page.getByText("found duplicate series").waitFor();
      await page.getByRole("button", { name: /Failing 1/ }).click();
      await page.getByRole("searchbox", { name: "Search rules" }).fill("reviews-v3");
      await page.waitForURL(/q=reviews-v3/);
      assert.equal(await rows.count(), 1);
      await rows.first().locator("summary").click();
      await page.locator(".expression").click();
      await page.waitForURL(/\/metrics\?.*q=sum/);
      await page.locator(".chart-plot canvas").waitFor();
    });
  });

  test("300 rules are listed", async () => {
    const large = await backend("large");
    await onPage("/alerts", (page) => page.getByText("300 rules in 10 groups").waitFor(), large.url);
    await large.close();
  });
});

test("Ctrl-K leads to a place by its name", () =>
  onPage("/graph", async (page) => {
    await graphReady(page, 5);
    await page.keyboard.press("Control+k");
    const box = page.getByRole("combobox", { name: /Go to a page/ });
    await box.fill("ratings logs");
    await page.locator(".palette [role=option]").filter({ hasText: "ratings" }).first().waitFor();
    await box.press("Enter");
    await page.waitForURL(/\/logs\?.*q=service/);
    await page.locator(".log-row:not(.head)").first().waitFor();
  }));

describe("an empty server", () => {
  let empty;
  before(async () => {
    empty = await backend("empty");
  });
  after(() => empty?.close());

  for (const [path, words] of [
    ["/graph", "No traffic yet"],
    ["/traces", "No traces yet"],
    ["/logs", "No access-log rows yet"],
    ["/metrics?q=up", "No series yet"],
    ["/alerts", "No rules"],
  ]) {
    test(`${path} says why, and what to do`, () =>
      onPage(
        path,
        async (page) => {
          await page.getByRole("heading", { name: words }).waitFor();
          await page.locator(".snippet pre").first().waitFor();
        },
        empty.url,
      ));
  }
});

describe("a failing server", () => {
  test("each page names the failure and stays usable", async () => {
    const failing = await backend("failing");
    const { page, context } = await openPage(browser);
    for (const path of ["/graph", "/traces", "/logs", "/metrics?q=up", "/alerts"]) {
      await page.goto(failing.url + path);
      await page.getByText("Storage is not ready").first().waitFor();
    }
    await context.close();
    await failing.close();
  });
});

describe("a mesh of 1,000 services", () => {
  test("starts folded by namespace, unfolds, and is moved by the mouse", async () => {
    const large = await backend("large");
    await onPage(
      "/graph",
      async (page) => {
        await graphReady(page, 30);
        assert.ok((await page.evaluate(() => window.__graph.nodes().length)) < 60);
        await page.goto(`${large.url}/graph?open=*`);
        await graphReady(page, 1000);
        const place = await page.locator(".graph-canvas").boundingBox();
        const x = () => page.evaluate(() => window.__graph.nodes()[0].x);
        const before = await eventually("places that nodes stay at", async () => {
          const [first, second] = [await x(), await x()];
          return first === second ? first : null;
        });
        await page.mouse.move(place.x + 300, place.y + 300);
        await page.mouse.down();
        for (let step = 0; step < 30; step += 1) await page.mouse.move(place.x + 300 + step * 5, place.y + 300 + step * 3);
        await page.mouse.up();
        await eventually("nodes that moved along", async () => (Math.abs((await x()) - before - 145) < 1 ? true : null));
      },
      large.url,
    );
    await large.close();
  });
});
