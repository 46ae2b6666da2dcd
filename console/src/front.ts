// The front page: what runs here, and the way to a device.
import { element, make } from "./dom.js";

const doors: Record<string, string> = {
  device: "devices and their viewers",
  api: "management",
};

element<HTMLFormElement>("watch").addEventListener("submit", (event) => {
  event.preventDefault();
  const id = element<HTMLInputElement>("device")
    .value.trim()
    .replace(/^device:\/\//, "");
  if (/^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$/.test(id)) {
    location.assign(`/watch/device/${id}`);
    return;
  }
  element("device-hint").textContent = "A device id has up to 32 letters, digits, “-” and “_”.";
});

/** Shows what the server says about itself; a server that says nothing is shown as running. */
async function showAbout(): Promise<void> {
  const about = await ask("/api/v1/about");
  if (typeof about.version === "string") element("version").textContent = about.version;
  const rows: [string, string][] = [];
  if (typeof about.version === "string") rows.push(["Version", about.version]);
  if (typeof about.node === "string") rows.push(["Node", about.node]);
  if (Array.isArray(about.doors)) {
    for (const door of about.doors) {
      if (typeof door === "string") rows.push([`Door “${door}”`, doors[door] ?? "open"]);
    }
  }
  for (const [name, value] of rows) {
    const row = document.createElement("div");
    row.append(make("dt", "", name), make("dd", "", value));
    element("about").append(row);
  }
}

async function ask(address: string): Promise<Record<string, unknown>> {
  try {
    const response = await fetch(address, { signal: AbortSignal.timeout(5000) });
    const body: unknown = response.ok ? await response.json() : undefined;
    return typeof body === "object" && body !== null ? (body as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

async function showReady(): Promise<void> {
  try {
    const response = await fetch("/readyz", { signal: AbortSignal.timeout(5000) });
    element("ready").textContent = response.ok ? "ready" : "not ready";
  } catch {
    element("ready").textContent = "cannot be reached";
  }
}

void showReady();
void showAbout();
