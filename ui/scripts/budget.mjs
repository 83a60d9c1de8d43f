// Fails the build when the page grows past its budget. Sizes are gzip bytes of dist/.
// "Initial" is the entry and all that it imports statically, the layout worker included,
// because the first page starts it at once.
import { readFileSync, existsSync, readdirSync, statSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { join } from "node:path";

const DIST = new URL("../dist/", import.meta.url).pathname;
const LIMITS_KB = { initialJs: 100, css: 20, lazyRoute: 60, totalRaw: 1500 };

if (!existsSync(join(DIST, ".vite/manifest.json"))) {
  if (process.argv.includes("--if-built")) process.exit(0);
  console.error("budget: no dist/.vite/manifest.json: run `npm run build`");
  process.exit(1);
}

const manifest = JSON.parse(readFileSync(join(DIST, ".vite/manifest.json"), "utf8"));
const gzipKb = (file) => gzipSync(readFileSync(join(DIST, file)), { level: 9 }).length / 1024;

function staticClosure(key, seen = new Set()) {
  if (seen.has(key)) return seen;
  seen.add(key);
  for (const next of manifest[key].imports ?? []) staticClosure(next, seen);
  return seen;
}

const entry = Object.keys(manifest).find((key) => manifest[key].isEntry);
const initialFiles = new Set([...staticClosure(entry)].map((key) => manifest[key].file));
const assets = readdirSync(join(DIST, "assets")).map((name) => `assets/${name}`);
for (const file of assets) if (/worker.*\.js$/.test(file)) initialFiles.add(file);

const sum = (files, size) => [...files].reduce((total, file) => total + size(file), 0);
const everyFile = (dir) =>
  readdirSync(dir, { withFileTypes: true }).flatMap((found) =>
    found.isDirectory() ? everyFile(join(dir, found.name)) : [join(dir, found.name)],
  );

const results = [
  ["initial JS", sum(initialFiles, gzipKb), LIMITS_KB.initialJs],
  ["CSS", sum(assets.filter((file) => file.endsWith(".css")), gzipKb), LIMITS_KB.css],
  ["all files, raw", sum(everyFile(DIST), (file) => statSync(file).size / 1024), LIMITS_KB.totalRaw],
  ...assets
    .filter((file) => file.endsWith(".js") && !initialFiles.has(file))
    .map((file) => [file, gzipKb(file), LIMITS_KB.lazyRoute]),
];

let over = false;
for (const [what, kb, limitKb] of results) {
  over ||= kb > limitKb;
  console.log(`budget  ${kb > limitKb ? "OVER" : "ok  "}  ${kb.toFixed(1).padStart(7)} of ${limitKb} KB  ${what}`);
}
process.exit(over ? 1 : 0);
