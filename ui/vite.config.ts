import { defineConfig } from "vitest/config";

// `npm run dev` shows the app against a running backend; PHAROS_URL points it elsewhere.
const backend = process.env.PHAROS_URL ?? "http://127.0.0.1:20001";

export default defineConfig({
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    target: "es2022",
    manifest: true,
    // The budget counts gzip itself, and the server compresses what it serves.
    reportCompressedSize: false,
    modulePreload: { polyfill: false },
  },
  worker: { format: "es" },
  // The contrast test reads the style sheet itself.
  test: { include: ["src/**/*.test.ts"], css: { include: [/tokens\.css/] } },
  server: { host: "127.0.0.1", proxy: { "/api": backend } },
  preview: { host: "127.0.0.1", proxy: { "/api": backend } },
});
