/** The frame around the pages: navigation, time window, theme, keys. */
import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { GraphPage } from "../pages/graph/GraphPage";
import { Icon, type IconName, Mark } from "../widgets/Icon";
import { WindowPicker } from "../widgets/WindowPicker";
import { Link } from "../widgets/controls";
import { Loading } from "../widgets/states";
import { HelpDialog } from "./HelpDialog";
import { Palette } from "./Palette";
import { isDark, toggleTheme } from "./preferences";
import { hrefTo, navigate, path } from "./route";
import { StatusLamp } from "./StatusLamp";
import { useKeys } from "./keyboard";

type Page = () => Promise<ComponentType>;

const PAGES: { path: string; title: string; icon: IconName; key: string; page: ComponentType | Page; lazy: boolean }[] = [
  { path: "/graph", title: "Graph", icon: "graph", key: "g g", page: GraphPage, lazy: false },
  {
    path: "/traces",
    title: "Traces",
    icon: "traces",
    key: "g t",
    page: async () => (await import("../pages/traces/TracesPage")).TracesPage,
    lazy: true,
  },
  {
    path: "/logs",
    title: "Logs",
    icon: "logs",
    key: "g l",
    page: async () => (await import("../pages/logs/LogsPage")).LogsPage,
    lazy: true,
  },
  {
    path: "/metrics",
    title: "Metrics",
    icon: "metrics",
    key: "g m",
    page: async () => (await import("../pages/metrics/MetricsPage")).MetricsPage,
    lazy: true,
  },
  {
    path: "/alerts",
    title: "Alerts",
    icon: "alerts",
    key: "g a",
    page: async () => (await import("../pages/alerts/AlertsPage")).AlertsPage,
    lazy: true,
  },
];

const pageAt = (at: string) =>
  PAGES.find((page) => at === page.path || at.startsWith(`${page.path}/`)) ?? PAGES[0]!;

export function App() {
  const [help, setHelp] = useState(false);
  const [palette, setPalette] = useState(false);
  const current = pageAt(path.value);
  useEffect(() => {
    document.title = `${current.title} · Pharos`;
  }, [current]);
  useKeys({
    ...Object.fromEntries(PAGES.map((page) => [page.key, () => navigate(hrefTo(page.path))])),
    "?": () => setHelp(true),
    "Ctrl+k": () => setPalette(true),
    d: toggleTheme,
    t: () => document.querySelector<HTMLElement>(".window-picker > button")?.click(),
    "/": () => document.querySelector<HTMLElement>("[data-search]")?.focus(),
    y: () => void navigator.clipboard?.writeText(location.href),
  });
  return (
    <div class="app">
      <a class="skip" href="#main">
        Skip to content
      </a>
      <header class="top">
        <Link href={hrefTo("/graph")} class="brand" title="Pharos">
          <Mark />
          <span>Pharos</span>
        </Link>
        <nav aria-label="Pages">
          {PAGES.map((page) => (
            <Link key={page.path} href={hrefTo(page.path)} current={page === current} class="tab" title={`${page.title} (${page.key})`}>
              <Icon name={page.icon} />
              {page.title}
            </Link>
          ))}
        </nav>
        <div class="spacer" />
        <button type="button" class="button go-to" title="A page, service, metric or trace" onClick={() => setPalette(true)}>
          <Icon name="search" size={14} /> Go to <kbd aria-hidden="true">Ctrl K</kbd>
        </button>
        <StatusLamp />
        <WindowPicker />
        <button
          type="button"
          class="button icon-only"
          aria-label={isDark.value ? "Use the light theme" : "Use the dark theme"}
          title="Theme (d)"
          onClick={toggleTheme}
        >
          <Icon name={isDark.value ? "sun" : "moon"} />
        </button>
        <button type="button" class="button icon-only" aria-label="Help and keys" title="Help (?)" onClick={() => setHelp(true)}>
          <Icon name="help" />
        </button>
      </header>
      <main id="main" tabIndex={-1}>
        <Shown key={current.path} entry={current} />
      </main>
      {palette && <Palette close={() => setPalette(false)} />}
      {help && <HelpDialog close={() => setHelp(false)} />}
    </div>
  );
}

/** A page; those that are not the first one are fetched when they are first opened. */
function Shown({ entry }: { entry: (typeof PAGES)[number] }) {
  const [Component, setComponent] = useState<ComponentType | null>(() => (entry.lazy ? null : (entry.page as ComponentType)));
  const [failed, setFailed] = useState(false);
  useEffect(() => {
    if (!entry.lazy) return;
    (entry.page as Page)().then(
      (loaded) => setComponent(() => loaded),
      () => setFailed(true),
    );
  }, [entry]);
  if (failed) return <p class="quiet">This page could not be loaded. Was Pharos updated? Reload to get the new version.</p>;
  return Component ? <Component /> : <Loading what={entry.title.toLowerCase()} />;
}
