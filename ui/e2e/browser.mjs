// Opens Debian's Chromium through playwright-core. Every console error and page error is kept.
import { chromium } from "playwright-core";

const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"];

export const launch = () => chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });

/** A fresh page; `problems` fills with what the console says is wrong. */
export async function openPage(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, deviceScaleFactor: 1, ...options });
  const page = await context.newPage();
  const problems = [];
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
  page.on("pageerror", (error) => problems.push(String(error)));
  return { page, context, problems };
}

/** Waits until the graph has nodes, and traffic moves if it may. */
export async function graphReady(page, leastNodes = 1) {
  await page.waitForFunction((least) => (window.__graph?.nodes().length ?? 0) >= least, leastNodes, { timeout: 20_000 });
}
