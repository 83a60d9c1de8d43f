import { expect, test } from "vitest";
import { rankEntries } from "./palette";

const entries = [
  { title: "Traces", detail: "search", href: "/traces" },
  { title: "reviews.bookinfo", detail: "traces", href: "/traces?service=reviews.bookinfo" },
  { title: "reviews.bookinfo", detail: "logs", href: "/logs?q=service:reviews" },
];

test.each([
  ["", ["/traces", "/traces?service=reviews.bookinfo", "/logs?q=service:reviews"]],
  ["trac", ["/traces", "/traces?service=reviews.bookinfo"]],
  ["logs rev", ["/logs?q=service:reviews"]],
  ["nothing", []],
  ["0123456789abcdef0123456789abcdef", ["/traces/0123456789abcdef0123456789abcdef"]],
])("%j leads to %j", (typed, hrefs) => expect(rankEntries(entries, typed).map(({ href }) => href)).toEqual(hrefs));
