// Draws what status.json says, again every ten seconds. Names come from devices, which may be anybody's:
// they are only ever set as text.
"use strict";

const byId = (id) => document.getElementById(id);
const numbers = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

const make = (tag, text, className) => {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
};

const duration = (seconds) => {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
};

const bytes = (n) => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let at = 0;
  while (n >= 1024 && at < units.length - 1) { n /= 1024; at += 1; }
  return `${n < 10 && at > 0 ? n.toFixed(1) : Math.round(n)} ${units[at]}`;
};

// A share of a whole: never rounded up to 100 % while something is missing.
const share = (part, whole) => {
  if (whole === 0 || part >= whole) return "100 %";
  const percent = Math.floor((part / whole) * 100000) / 1000;
  return `${Math.min(percent, 99.999)} %`;
};

const plot = (values, label) => {
  const cell = make("div");
  if (values.length < 2) {
    cell.append(make("span", "not yet", "scale"));
    return cell;
  }
  const top = Math.max(...values, 1);
  const x = (at) => (at / (values.length - 1)) * 100;
  const points = values.map((value, at) => `${x(at).toFixed(2)},${(29 - (value / top) * 27).toFixed(2)}`);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 100 30");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${label}: now ${short.format(values[values.length - 1])}, at most ${short.format(Math.max(...values))}`);
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  line.setAttribute("points", points.join(" "));
  svg.append(line);
  cell.append(svg, make("span", `now ${short.format(values[values.length - 1])}, at most ${short.format(Math.max(...values))}`, "scale"));
  return cell;
};

const fill = (table, rows) => {
  const names = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  const body = make("tbody");
  for (const cells of rows) {
    const row = body.insertRow();
    cells.forEach((content, at) => {
      const cell = row.insertCell();
      cell.dataset.name = names[at];
      const { text, node, className } = content;
      cell.className = className ?? "";
      cell.append(node ?? make("span", text));
    });
  }
  table.tBodies[0].replaceWith(body);
};

const tile = (name, text, bad) => {
  const box = make("div");
  box.append(make("dt", name), make("dd", text, bad ? "bad" : ""));
  return box;
};

const n = (value, bad) => ({ text: numbers.format(value), className: bad ? "n bad" : "n" });

const drawPartitions = (view) => {
  byId("partitions-note").textContent = view.partitions.length === 0
    ? "None of the topic's partitions is this loader's."
    : `${view.partitions.length} of the topic's partitions are this loader's. The lag is durable: what would have to be read again if it died now.`;
  fill(byId("partitions"), view.partitions.map((of) => {
    const rate = of.history_records.map((records) => records / (view.every_ms / 1000));
    const lag = of.lag_records === null ? "not known yet"
      : of.lag_records === 0 ? "0" : `${numbers.format(of.lag_records)} (${duration(of.lag_seconds)})`;
    const name = make("div", String(of.partition));
    if (of.waits !== null) name.append(make("div", `not loaded: ${of.waits}`));
    return [
      { node: name, className: of.waits === null ? "" : "bad" },
      { text: lag, className: "n" },
      n(of.durable),
      { node: plot(rate, "Records a second") },
      { node: plot(of.history_lag_seconds, "Lag in seconds") },
    ];
  }));
};

const drawDevices = (view) => {
  const devices = view.devices;
  const wanted = byId("find").value.trim().toLowerCase();
  const shown = devices.listed.filter((of) => of.device.toLowerCase().includes(wanted));
  const listed = devices.listed.length < devices.known ? ` The ${devices.listed.length} that need a look first are listed.` : "";
  byId("devices-note").textContent = devices.known === 0
    ? "No record of a device has come yet: devices are known by the headers of headwater-agent."
    : `${numbers.format(devices.known)} known, ${numbers.format(devices.with_gaps)} with gaps that nothing explains.${listed}`;
  fill(byId("devices"), shown.map((of) => [
    { text: of.device },
    { text: `${duration(Math.max(0, view.now_ms - of.seen_ms) / 1000)} ago` },
    { text: share(of.offsets - of.missing, of.offsets), className: of.missing > 0 ? "n bad" : "n" },
    n(of.gaps, of.gaps > 0),
    n(of.records),
    n(of.duplicates),
  ]));
};

const drawDead = (view) => {
  byId("dead-note").textContent = view.dead_letters.length === 0
    ? "None since this loader started."
    : "Since this loader started. All that were ever stored: headwater-loader dlq list.";
  fill(byId("dead"), view.dead_letters.map((of) => [
    { text: of.step },
    n(of.records, true),
    { text: `partition ${of.last_partition}, offset ${of.last_offset}: ${of.last_reason}` },
  ]));
};

const draw = (view) => {
  byId("about").textContent = `${view.topic} → ${view.output}, group ${view.group}, version ${view.version}, up ${duration((view.now_ms - view.started_ms) / 1000)}`;
  const state = byId("state");
  state.textContent = view.joined ? "In the group" : "Not in the group yet";
  state.className = view.joined ? "good" : "bad";
  const known = view.partitions.filter((of) => of.lag_records !== null);
  const lag = known.reduce((sum, of) => sum + of.lag_records, 0);
  const age = known.reduce((most, of) => Math.max(most, of.lag_seconds), 0);
  const records = view.records;
  byId("tiles").replaceChildren(
    tile("durable lag", lag === 0 ? "0" : `${short.format(lag)} (${duration(age)})`),
    tile("records read", short.format(records.read)),
    tile("bytes read", bytes(records.bytes)),
    tile("rows written", short.format(records.written)),
    tile("filtered", short.format(records.filtered)),
    tile("came again", short.format(records.duplicates)),
    tile("dead letters", short.format(records.dead_letters), records.dead_letters > 0),
    tile("devices with gaps", numbers.format(view.devices.with_gaps), view.devices.with_gaps > 0),
    tile("memory", bytes(view.resident_bytes)),
    tile("output tried again", numbers.format(view.output_retries), view.output_retries > 0),
  );
  drawPartitions(view);
  drawDevices(view);
  drawDead(view);
  document.querySelector("main").hidden = false;
};

let last;

const refresh = async () => {
  try {
    const answer = await fetch("status.json", { cache: "no-store", signal: AbortSignal.timeout(8000) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    last = await answer.json();
    draw(last);
  } catch (error) {
    const since = last ? `; what is shown is as of ${new Date(last.now_ms).toLocaleTimeString()}` : "";
    byId("state").textContent = `The loader does not answer (${error.message})${since}`;
    byId("state").className = "bad";
  }
  setTimeout(refresh, document.hidden ? 60000 : 10000);
};

byId("find").addEventListener("input", () => last && drawDevices(last));
refresh();
