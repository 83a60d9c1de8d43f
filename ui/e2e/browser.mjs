// Opens Debian's Chromium through playwright-core. Every console error and page error is kept.
import { chromium } from "playwright-core";

const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"];

/** How long anything may take before a test gives up on it: generous, since a CI machine may be busy. */
const PATIENCE_MS = 60_000;

export const launch = () => chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS, timeout: PATIENCE_MS });

/** A fresh page; `problems` fills with what the console says is wrong. */
export async function openPage(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, deviceScaleFactor: 1, ...options });
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  const problems = [];
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
  page.on("pageerror", (error) => problems.push(String(error)));
  return { page, context, problems };
}

/** Asks `found` again and again until its answer is not null. */
export async function eventually(what, found) {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    const answer = await found();
    if (answer !== null) return answer;
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Waits until the graph has nodes. */
export async function graphReady(page, leastNodes = 1) {
  await page.waitForFunction((least) => (window.__graph?.nodes().length ?? 0) >= least, leastNodes);
}
