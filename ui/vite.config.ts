import { defineConfig } from "vite";

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
  server: { host: "127.0.0.1", proxy: { "/api": backend } },
  preview: { host: "127.0.0.1", proxy: { "/api": backend } },
});
