// Builds the pages into dist: scripts, style and icon get the hash of their content in
// their names, and the pages name them. dist is embedded into the binary by console.go.
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

process.chdir(fileURLToPath(new URL(".", import.meta.url)));

for (const name of await readdir("dist")) {
  if (name !== ".keep") await rm(`dist/${name}`, { recursive: true });
}

const { metafile } = await build({
  entryPoints: ["src/front.ts", "src/watch.ts", "src/style.css", "src/icon.svg"],
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  loader: { ".svg": "copy" },
  entryNames: "[name]-[hash]",
  outdir: "dist/assets",
  metafile: true,
  logLevel: "warning",
});

/** What `{{file}}` in a page stands for. */
const addresses = new Map();
for (const [out, { entryPoint, inputs }] of Object.entries(metafile.outputs)) {
  const source = entryPoint ?? Object.keys(inputs)[0];
  if (source !== undefined) addresses.set(basename(source), `/assets/${basename(out)}`);
}

for (const page of ["index.html", "watch.html"]) {
  const text = await readFile(`src/${page}`, "utf8");
  const named = text.replace(/\{\{([^}]+)\}\}/g, (_, name) => {
    const address = addresses.get(name);
    if (address === undefined) throw new Error(`${page} names ${name}, which is not built`);
    return address;
  });
  await writeFile(`dist/${page}`, named);
}
