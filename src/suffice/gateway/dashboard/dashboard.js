"use strict";
// Asks for /admin/state once a second and draws it. Everything that came over the wire is set as
// text, never as markup.

const KEY = "suffice-admin-key";
const PALETTE = ["--blue", "--amber", "--green", "--violet", "--teal", "--red"];
const NS = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);
let span = new URLSearchParams(location.search).get("span") || "15m";
let opened = new Set();
let openedFailures = new Set();
let colours = new Map();

// --- small builders

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
  node.append(...children);
  return node;
}

function put(id, ...children) { byId(id).replaceChildren(...children); }

// --- numbers as people read them

function count(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  for (const [unit, scale] of [["B", 1e9], ["M", 1e6], ["K", 1e3]]) {
    if (size >= scale) {
      const scaled = value / scale;
      return scaled.toFixed(Math.abs(scaled) < 10 ? 2 : Math.abs(scaled) < 100 ? 1 : 0) + unit;
    }
  }
  return size > 0 && size < 10 && !Number.isInteger(value) ? value.toFixed(1) : Math.round(value).toString();
}

function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  if (value < 1) return (value * 1e3 < 10 ? (value * 1e3).toFixed(1) : Math.round(value * 1e3)) + " ms";
  return value < 100 ? value.toFixed(value < 10 ? 2 : 1) + " s" : Math.round(value) + " s";
}

const percent = (value, digits = 0) =>
  value === null || value === undefined ? "–" : (value * 100).toFixed(digits) + "%";
const dollars = (value) => (value >= 100 ? "$" + Math.round(value) : "$" + value.toPrecision(3));
const clock = (at, withSeconds) => {
  const when = new Date(at * 1000);
  const two = (n) => String(n).padStart(2, "0");
  const text = `${two(when.getHours())}:${two(when.getMinutes())}`;
  return withSeconds ? `${text}:${two(when.getSeconds())}` : text;
};
const colour = (arm) => {
  if (arm === "bypass" || arm === "none") return "var(--grey)";
  if (!colours.has(arm)) colours.set(arm, PALETTE[colours.size % PALETTE.length]);
  return `var(${colours.get(arm)})`;
};
const tag = (arm) => el("span", { class: `tag ${arm === "bypass" || !arm ? "bypass" : ""}` }, !arm ? "refused" : arm === "bypass" ? "passed through" : arm);

// --- plots

const HIGH = 170, LEFT = 44, BOTTOM = 20, TOP = 8;

function nice(most) {
  if (!(most > 0)) return 1;
  const scale = 10 ** Math.floor(Math.log10(most));
  return [1, 1.5, 2, 3, 4, 5, 8, 10].map((m) => m * scale).find((limit) => limit >= most * 0.999);
}

// Axes in the box's own pixels, then whatever `marks` draws with the scales it is given.
function plot(id, series, most, shown, marks) {
  const box = byId(id);
  const wide = Math.max(240, box.clientWidth);
  const drawn = svg("svg", { viewBox: `0 0 ${wide} ${HIGH}`, role: "img" });
  const bottom = HIGH - BOTTOM;
  const y = (value) => bottom - (Math.min(value, most) / most) * (bottom - TOP);
  const x = (place) => LEFT + ((wide - LEFT) * place) / series.length;
  for (const share of [0, 0.5, 1]) {
    const at = y(most * share);
    drawn.append(svg("line", { x1: LEFT, x2: wide, y1: at, y2: at, class: share ? "grid" : "base" }));
    const label = svg("text", { x: LEFT - 7, y: at + 4, "text-anchor": "end" });
    label.textContent = shown(most * share);
    drawn.append(label);
  }
  const days = series[series.length - 1].at_s - series[0].at_s > 1.5 * 86400;
  for (const share of [0, 1 / 3, 2 / 3, 1]) {
    const step = series[Math.round(share * (series.length - 1))];
    const anchor = share === 0 ? "start" : share === 1 ? "end" : "middle";
    const label = svg("text", { x: LEFT + (wide - LEFT) * share, y: HIGH - 4, "text-anchor": anchor });
    label.textContent = days
      ? new Date(step.at_s * 1000).toLocaleDateString(undefined, { month: "short", day: "numeric" })
      : clock(step.at_s);
    drawn.append(label);
  }
  marks({ drawn, x, y, bottom });
  box.replaceChildren(drawn);
}

function titled(node, text) {
  const title = svg("title");
  title.textContent = text;
  node.append(title);
  return node;
}

function bars(drawn, x, y, step, place, parts) {
  let below = 0;
  const gap = x(1) - x(0) > 5 ? 1 : 0.2;
  for (const [value, fill] of parts) {
    if (!(value > 0)) continue;
    const top = y(below + value);
    const bar = svg("rect", {
      x: x(place) + gap / 2, y: top, width: Math.max(0.6, x(place + 1) - x(place) - gap),
      height: Math.max(0.5, y(below) - top),
    });
    bar.style.fill = fill;
    drawn.append(titled(bar, step));
    below += value;
  }
}

function drawTraffic(state) {
  const { series } = state;
  const stepS = series.length > 1 ? series[1].at_s - series[0].at_s : 10;
  const names = state.arms.map((arm) => arm.arm);
  byId("traffic-unit").textContent = `per ${stepS < 60 ? stepS + " s" : stepS < 3600 ? stepS / 60 + " min" : stepS / 3600 + " h"}, by policy`;
  const most = nice(Math.max(1, ...series.map((step) => step.requests)));
  plot("traffic", series, most, count, ({ drawn, x, y }) => {
    series.forEach((step, place) => {
      const parts = names.map((name) => [step.arms[name] || 0, colour(name)]);
      bars(drawn, x, y, `${clock(step.at_s, true)}: ${count(step.requests)} requests, ${count(step.failed)} failed`, place, parts);
    });
  });
  put("traffic-legend", ...names.slice(0, 6).map((name) => {
    const item = el("span", {}, name === "none" ? "refused" : name === "bypass" ? "passed through" : name);
    item.style.setProperty("--c", colour(name));
    return item;
  }));
}

// What was saved against the baseline: a share, or how many times as much was spent.
function against(saved) {
  if (saved === null || saved === undefined) return "–";
  if (saved >= 0) return percent(saved);
  return `costs ${(1 - saved).toFixed(1 - saved >= 1.95 ? 1 : 2)}×`;
}

const spentMore = (saved) => (saved !== null && saved !== undefined && saved < 0 ? "over" : null);

const inUnit = (unit) => (unit === "usd" ? dollars : count);

function drawCosts(state) {
  const { series, total } = state;
  const unit = total.cost_unit, amount = inUnit(unit);
  byId("costs-caption").textContent = `${unit === "usd" ? "USD" : "Weighted tokens"}, of answers compared with the baseline`;
  const costs = series.map((step) => [step[`compared_cost_${unit}`], step[`baseline_cost_${unit}`]]);
  const most = nice(Math.max(1e-9, ...costs.flat()));
  plot("costs", series, most, amount, ({ drawn, x, y }) => {
    series.forEach((step, place) => {
      const [spent, baseline] = costs[place];
      const over = Math.max(0, spent - baseline), saved = Math.max(0, baseline - spent);
      bars(drawn, x, y, `${clock(step.at_s, true)}: ${amount(spent)} spent, the baseline ${amount(baseline)}`, place,
        [[spent - over, "var(--blue)"], [over, "var(--red)"], [saved, "var(--save)"]]);
    });
  });
}

function drawLatency(state) {
  const { series } = state;
  const most = nice(Math.max(0.001, ...series.map((step) => step.total_p95_s || 0)));
  plot("latency", series, most, seconds, ({ drawn, x, y }) => {
    for (const [name, stroke] of [["total_p95_s", "var(--amber)"], ["total_p50_s", "var(--blue)"]]) {
      let path = "", points = 0, last = null;
      series.forEach((step, place) => {
        if (step[name] === null || step[name] === undefined) return;
        const at = [(x(place) + x(place + 1)) / 2, y(step[name])];
        // A step without answers breaks the line: nothing is known about it.
        path += `${last === place - 1 ? "L" : "M"}${at[0].toFixed(1)} ${at[1].toFixed(1)}`;
        last = place;
        points += 1;
        const dot = svg("circle", { cx: at[0], cy: at[1], r: 2 });
        dot.style.fill = stroke;
        drawn.append(titled(dot, `${clock(step.at_s, true)}: ${seconds(step[name])}`));
      });
      if (!points) continue;
      const line = svg("path", { d: path, fill: "none", "stroke-width": 1.8, "stroke-linejoin": "round" });
      line.style.stroke = stroke;
      drawn.append(line);
    }
  });
}

// --- the parts of the page

function comparedNote(total) {
  if (total.saved === null) return "nothing differed from the baseline";
  const amount = inUnit(total.cost_unit);
  const guessed = total.estimated ? `, ${percent(total.estimated / total.compared)} estimated` : "";
  return `${amount(total.compared_cost)} of ${amount(total.baseline_cost)}${guessed}`;
}

function card(label, value, note, good, bad) {
  return el("div", { class: `card${good ? " good" : ""}${bad ? " bad" : ""}` }, el("span", {}, label), value, el("em", { title: note }, note));
}

function big(text, unit) {
  return el("b", {}, text, unit ? el("small", {}, " " + unit) : "");
}

function drawCards(state) {
  const { total, latency } = state;
  const length = state.series.length * (state.series.length > 1 ? state.series[1].at_s - state.series[0].at_s : 10);
  const failed = total.failed ? `${count(total.failed)} failed (${percent(total.failed / total.requests, 1)})` : "none failed";
  const times = latency.total || {};
  const overhead = (latency.overhead || {}).p50_s;
  const tokens = total.prompt_tokens + total.completion_tokens;
  put("cards",
    card("Requests", big(count(total.requests), `${(total.requests / length).toFixed(2)}/s`), failed),
    card("Saved vs baseline", big(against(total.saved)), comparedNote(total), total.saved > 0, total.saved < 0),
    card("Judged right", big(percent(total.score, 1)), total.judged ? `${count(total.judged)} judged by feedback` : "no feedback yet"),
    card("Latency", big(seconds(times.p50_s), "median"),
      `p95 ${seconds(times.p95_s)}` + (overhead === undefined || overhead === null ? "" : `, ours ${seconds(overhead)}`)),
    card(total.usd ? "Cost" : "Tokens", big(total.usd ? dollars(total.usd) : count(tokens)),
      `${count(total.completion_tokens)} completion, ${count(total.prompt_tokens)} prompt`),
    card("In flight", big(count(state.running)),
      state.lambda_steered ? `auto's spending level ${state.lambda.toFixed(4)}, target ${state.spend_target} samples` : `${state.processes} ${state.processes === 1 ? "process" : "processes"}`));
}

const points = (share) => (100 * share).toFixed(Math.abs(100 * share) < 1 ? 2 : 1);
const LOSSES = { drop: "net loss", harm: "lost answers", stopped: "answered early", confidence: "confidence", differ: "answers differ" };

function certificateCard(one) {
  const bad = Boolean(one.alarm);
  const promised = one.promised
    ? `${against(one.promised.saved)} [${percent(one.promised.low)}, ${percent(one.promised.high)}]` : "–";
  const seen = one.seen ? `${against(one.seen.saved)} over ${count(one.seen.requests)} answers` : "no covered answer yet";
  const guessed = one.seen && one.seen.estimated ? `, ${count(one.seen.estimated)} estimated` : "";
  const audited = one.audits && one.audits.compared
    ? `${count(one.audits.compared)} audited, ${count(one.audits.differ)} differ, ${count(one.audits.judged)} judged` : "no answer audited yet";
  const watched = one.monitors.filter((m) => m.n).map((m) => `${LOSSES[m.quantity] || m.quantity} ${points(m.mean)} % of ${count(m.n)} (at most ${points(m.high)} %)`);
  return el("div", { class: `panel certificate${bad ? " off" : ""}`, title: one.statement },
    el("div", { class: "head" }, el("span", { class: bad ? "pill bad" : "pill" }, bad ? "switched off" : "in force"),
      el("b", {}, `at most ${points(one.limit)} points lost, ${percent(one.confidence)} sure`), el("code", {}, one.id)),
    bad ? el("p", { class: "bad" }, `${one.alarm}; the baseline answers alone`) : "",
    el("dl", {}, el("dt", {}, "saved, promised"), el("dd", {}, promised),
      el("dt", {}, "saved, seen"), el("dd", { class: one.seen ? spentMore(one.seen.saved) : null }, seen + guessed),
      el("dt", {}, "audits"), el("dd", {}, audited),
      el("dt", {}, "monitor"), el("dd", {}, watched.length ? watched.join("; ") : "nothing observed yet")));
}

// Evidence over shadowed requests: nothing at the solid line, certified at the dashed one.
function evidenceCurve(one) {
  const at = one.curve, wide = 420, high = 90;
  const drawn = svg("svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", class: "evidence" });
  drawn.append(svg("title", {}, `log evidence after ${count(one.shadowed)} shadowed requests; ${one.reach.toFixed(2)} certifies`));
  const logs = at.map((p) => Math.min(Math.max(p.log_wealth, -one.reach), 2 * one.reach));
  const most = Math.max(one.shadowed, 1), low = Math.min(0, ...logs), top = Math.max(1.15 * one.reach, ...logs);
  const y = (value) => high - 4 - ((high - 8) * (value - low)) / (top - low);
  drawn.append(svg("line", { x1: 0, x2: wide, y1: y(one.reach), y2: y(one.reach), class: "reach" }));
  drawn.append(svg("line", { x1: 0, x2: wide, y1: y(0), y2: y(0), class: "base" }));
  for (const event of one.events) {
    if (event.happened === "restarted") continue;
    const x = (wide * event.number) / most;
    drawn.append(svg("line", { x1: x, x2: x, y1: 0, y2: high, class: event.happened }));
  }
  const path = at.map((p, i) => `${i ? "L" : "M"}${((wide * p.n) / most).toFixed(1)} ${y(logs[i]).toFixed(1)}`).join("");
  if (path) drawn.append(svg("path", { d: path, fill: "none", class: "curve" }));
  return drawn;
}

function liveCard(one) {
  const on = one.answering !== null && one.answering !== undefined;
  const word = one.shadow_only ? "shadow only" : on ? (one.doubted ? "in force, doubted" : "in force") : "shadowing";
  const spent = one.spent ? `${count(one.spent.prompt_tokens + one.spent.completion_tokens)} tokens in this span` : "nothing spent in this span";
  const rows = one.candidates.map((c) => {
    const seen = c.n ? `${percent(c.differ, 1)} of ${count(c.n)} ${one.judge ? "judged worse" : one.loss && one.loss !== "differ" ? "lost or not labelled" : "differ"}` : "nothing compared yet";
    const state = c.on ? "certified" : `evidence ${Math.max(0, (100 * c.log_wealth) / one.reach).toFixed(0)} %`;
    return [el("dt", {}, c.policy), el("dd", {}, `${seen}; ${state}`)];
  });
  const engine = one.engine || {};
  const range = engine.interval_s ? ` [${engine.interval_s.map((s) => s.toFixed(1)).join(", ")}]` : "";
  const saved = engine.saved_s === null || engine.saved_s === undefined ? "not known yet" :
    `${engine.saved_s.toFixed(1)} s${range} in this span, against ${one.safe} answering everything; shadow runs took ${engine.shadow_s.toFixed(1)} s of it`;
  const words = { differ: "answered differently", harm: "of right answers lost (labels)", net: "of right answers lost, net (labels)" };
  const what = one.judge ? `answered worse (judged by ${one.judge.model})` : words[one.loss || "differ"];
  const labels = one.waiting === null || one.waiting === undefined ? [] :
    [el("dt", {}, "labels"), el("dd", {}, `${count(one.labels)} counted, ${count(one.waiting)} differences wait for one`)];
  const last = one.events.length ? one.events[one.events.length - 1].said : "";
  return el("div", { class: "panel certificate" },
    el("div", { class: "head" }, el("span", { class: on ? "pill" : "pill wait" }, word),
      el("b", {}, `at most ${points(one.target)} % ${what}, ${percent(one.confidence)} sure`), el("code", {}, one.id)),
    evidenceCurve(one),
    el("dl", {}, el("dt", {}, "answers now"), el("dd", {}, on ? one.candidates[one.answering - 1].policy : one.safe), ...rows.flat(),
      el("dt", {}, "a cheap answer costs"), el("dd", {}, one.cheap_cost_share === null ? "not comparable: give prices" : `${percent(one.cheap_cost_share, 1)} of a safe one`),
      el("dt", {}, "engine time saved"), el("dd", {}, saved), ...labels,
      el("dt", {}, "shadowed"), el("dd", {}, `${count(one.shadowed)}, now ${percent(one.share)} of requests; ${spent}`)),
    last ? el("p", {}, last) : "");
}

function drawCertificates(state) {
  put("certificates", ...(state.live_certificates || []).filter((one) => one.cluster === null || one.cluster === undefined || one.shadowed).map(liveCard), ...(state.certificates || []).map(certificateCard));
}

function drawModels(state) {
  const list = state.models || [];
  if (!list.length) return put("models", el("tbody", {}, el("tr", {}, el("td", { class: "empty" }, "No answers in this span."))));
  const answered = list.reduce((sum, one) => sum + one.requests, 0) || 1;
  const spent = list.reduce((sum, one) => sum + (one.usd || 0), 0);
  return put("models", ...table([["model", true], ["answered"], ["share"], ["completion tokens"], ["cost"]], list.map((one) => el("tr", {},
    cell(one.model, { class: "l" }), cell(count(one.requests)), cell(percent(one.requests / answered)), cell(count(one.completion_tokens)),
    cell(one.usd === null ? "–" : dollars(one.usd), { title: one.usd === null ? "this model has no price: [prices] in suffice.toml" : `${percent(spent ? one.usd / spent : 0)} of all` })))));
}

function drawFailures(state) {
  const list = state.failures || [];
  byId("failures-count").textContent = list.length ? `${count(list.reduce((sum, one) => sum + one.count, 0))} in this span` : "";
  if (!list.length) return put("failures", el("div", { class: "empty" }, "Nothing failed in this span."));
  return put("failures", ...list.map((one) => {
    const name = `${one.status || ""} ${one.code} ${one.model}`;
    const inside = el("details", openedFailures.has(name) ? { open: true } : {},
      el("summary", {}, el("span", { class: "bad" }, `${one.status || "–"} ${one.code}`), el("span", {}, one.model || "no model"),
        el("b", {}, count(one.count)), el("span", { class: "dim" }, `last ${clock(one.newest_s, true)}`)),
      ...one.requests.map((row) => el("div", { class: "failure" }, el("span", { class: "dim" }, clock(row.at_s, true)), el("code", {}, row.id))));
    inside.addEventListener("toggle", () => { if (inside.open) openedFailures.add(name); else openedFailures.delete(name); });
    return inside;
  }));
}

function lane(sample, most) {
  const bar = el("div", { class: "bar" });
  bar.style.width = `${Math.max(2, (100 * sample.tokens) / most)}%`;
  const said = sample.answer ? `: ${sample.answer}` : "";
  return el("div", { class: `lane ${sample.status}`, title: `sample ${sample.sample}, ${sample.model}, ${sample.status}${said}` },
    el("span", {}, sample.purpose === "answer" ? String(sample.sample) : sample.purpose[0]),
    el("div", { class: "track" }, bar), el("span", {}, `${count(sample.tokens)} tok`));
}

function drawLive(state) {
  byId("live-count").textContent = state.running ? `${count(state.running)} in flight` : "";
  if (!state.live.length) return put("live", el("div", { class: "empty" }, "Nothing is being answered now."));
  put("live", ...state.live.slice(-5).map((call) => {
    const passed = [{ sample: 0, model: call.model, purpose: "answer", status: "running", tokens: call.pieces }];
    const samples = call.samples.length ? call.samples : passed;
    const most = Math.max(24, ...samples.map((sample) => sample.tokens));
    return el("div", { class: "call" },
      el("div", { class: "head" }, tag(call.arm), el("span", {}, call.model || "…"),
        el("span", { class: "dim" }, seconds(Math.max(0, state.now_s - call.began_s))), el("code", {}, call.id.slice(0, 16))),
      el("div", { class: "lanes" }, ...samples.slice(0, 24).map((sample) => lane(sample, most))),
      samples.length > 24 ? el("div", { class: "dim" }, `and ${samples.length - 24} more samples`) : "");
  }));
  return undefined;
}

function table(heads, rows) {
  return [
    el("thead", {}, el("tr", {}, ...heads.map(([text, left]) => el("th", { class: left ? "l" : null, scope: "col" }, text)))),
    el("tbody", {}, ...rows),
  ];
}

const cell = (content, options = {}) => el("td", { class: options.class, title: options.title }, content);

function drawArms(state) {
  if (!state.arms.length) return put("arms", el("div", { class: "empty" }, "No requests in this span."));
  const all = state.total.requests;
  const rows = state.arms.map((arm) => {
    const fill = el("i");
    fill.style.width = percent(arm.requests / all, 1);
    fill.style.setProperty("--c", colour(arm.arm));
    return el("tr", {},
      cell(tag(arm.arm === "none" ? "" : arm.arm), { class: "l" }),
      // A share too small to be seen is told without a bar.
      el("td", { class: "l" }, arm.requests < 0.005 * all ? "" : el("span", { class: "share" }, fill), arm.requests < 0.005 * all ? "<1%" : percent(arm.requests / all)),
      cell(count(arm.requests)),
      cell(against(arm.saved), { class: spentMore(arm.saved), title: `${count(arm.compared)} compared, ${count(arm.estimated)} of them estimated` }),
      cell(percent(arm.score, 1), { title: `${arm.judged} judged` }),
      cell(seconds(arm.median_s)));
  });
  const list = el("table");
  list.append(...table([["policy", true], ["share", true], ["requests"], ["saved"], ["right"], ["median"]], rows));
  return put("arms", el("div", { class: "scroll" }, list));
}

function dots(row) {
  if (!row.sample_rows.length) return el("span", { class: "dim" }, row.arm === "bypass" ? "passed through" : "–");
  const shown = row.sample_rows.slice(0, 24).map((sample) => {
    const accepted = sample.choice === 0 && sample.sample === row.accepted_sample ? "accepted" : "";
    const purpose = sample.status === "finished" ? sample.purpose : "";
    return el("i", { class: `${sample.status} ${purpose} ${accepted}`, title: `sample ${sample.sample}: ${sample.status}, ${sample.completion_tokens} tokens` });
  });
  const more = row.sample_rows.length - shown.length;
  return el("span", { class: "dots" }, ...shown, more > 0 ? el("b", { class: "more" }, `+${more}`) : null);
}

function outcome(row) {
  if (row.ending === "failed") return el("span", { class: "bad" }, `${row.status} ${row.error_code || ""}`);
  if (row.ending === "left") return el("span", { class: "dim" }, "client left");
  return el("span", {}, row.escalated ? "no answer found" : "answered");
}

function judged(row) {
  if (row.score === null) return el("span", { class: "dim" }, "–");
  return row.score >= 0.5 ? el("span", { class: "good" }, row.score === 1 ? "right" : percent(row.score))
    : el("span", { class: "bad" }, row.score === 0 ? "wrong" : percent(row.score));
}

// Calls of tools over time: a bar each, and a line from every step to those that cite its result.
function toolGraph(calls) {
  const wide = 640, high = 20, left = 150, top = 4;
  const end = Math.max(...calls.map((call) => call.began_s + call.elapsed_s), 1e-3);
  const x = (at) => left + ((wide - left - 8) * at) / end;
  const middle = (place) => top + place * high + high / 2;
  const drawn = svg("svg", { viewBox: `0 0 ${wide} ${calls.length * high + 2 * top}`, role: "img", class: "tools" });
  const places = new Map(calls.map((call, place) => [`${call.choice} ${call.step}`, place]));
  calls.forEach((call, place) => {
    for (const step of call.cites.split(" ").filter(Boolean)) {
      const from = places.get(`${call.choice} ${step}`);
      if (from === undefined) continue;
      const at = calls[from].began_s + calls[from].elapsed_s;
      drawn.append(svg("path", { d: `M${x(at)} ${middle(from)}L${x(call.began_s)} ${middle(place)}`, class: "cites" }));
    }
  });
  calls.forEach((call, place) => {
    const label = svg("text", { x: 0, y: middle(place) + 4 });
    label.textContent = `${call.step ? call.step + " " : ""}${call.tool}`.slice(0, 24);
    const bar = svg("rect", {
      x: x(call.began_s), y: middle(place) - 6, height: 12, rx: 3, class: call.status,
      width: Math.max(2, x(call.began_s + call.elapsed_s) - x(call.began_s)),
    });
    const cites = call.cites ? `, cites ${call.cites}` : "";
    titled(bar, `${call.tool}: ${call.status}${cites}, ${seconds(call.elapsed_s)}, ${count(call.result_chars)} characters${call.reason ? ": " + call.reason : ""}`);
    drawn.append(label, bar);
  });
  return drawn;
}

function detail(row) {
  const inner = el("table");
  inner.append(...table([["sample", true], ["purpose", true], ["status", true], ["tokens"], ["first token"], ["time"], ["why it ended", true]],
    row.sample_rows.map((sample) => el("tr", {},
      cell(String(sample.sample), { class: "l" }), cell(sample.purpose, { class: "l" }), cell(sample.status, { class: "l" }),
      cell(count(sample.completion_tokens)), cell(seconds(sample.ttft_s)), cell(seconds(sample.elapsed_s)),
      cell(sample.reason || (sample.answer ? `answered ${sample.answer}` : ""), { class: "l why" })))));
  return el("tr", { class: "detail" }, el("td", { colspan: 10 }, el("code", {}, row.id), row.sample_rows.length ? inner : "",
    (row.tool_rows || []).length ? toolGraph(row.tool_rows) : ""));
}

function drawRecent(state) {
  if (!state.recent.length) return put("recent", el("tbody", {}, el("tr", {}, el("td", { class: "empty" }, "No requests yet. Send one to /v1/chat/completions."))));
  const rows = [];
  for (const row of state.recent) {
    const line = el("tr", { class: "open-able", tabindex: 0, "data-id": row.id, "aria-expanded": String(opened.has(row.id)) },
      cell(clock(row.started_s, true), { class: "l" }), cell(tag(row.arm), { class: "l" }),
      cell(row.served_model || row.model || "–", { class: "l" }), cell(dots(row), { class: "l" }),
      cell(row.completion_tokens === null ? "–" : (row.usage_source === "estimated" ? "≈" : "") + count(row.completion_tokens)),
      cell(against(row.saved), { class: spentMore(row.saved), title: row.baseline ? `against ${row.baseline}, ${row.saving_basis}` : null }), cell(row.confidence === null ? "–" : row.confidence.toFixed(2)),
      cell(seconds(row.elapsed_s)), cell(judged(row)),
      row.why ? cell(row.why, { class: "l why", title: row.why }) : cell(outcome(row), { class: "l why" }));
    rows.push(line);
    if (opened.has(row.id)) rows.push(detail(row));
  }
  return put("recent", ...table([["time", true], ["policy", true], ["model", true], ["samples", true], ["tokens"], ["saved"], ["confidence"], ["latency"], ["judged"], ["why", true]], rows));
}

function drawKeys(state) {
  byId("keys-panel").hidden = !state.keys.length;
  put("keys", ...table([["key", true], ["requests"], ["tokens"], ["cost"]], state.keys.map((key) => el("tr", {},
    cell(key.key, { class: "l" }), cell(count(key.requests)), cell(count(key.tokens)), cell(key.usd ? dollars(key.usd) : "–")))));
}

function drawHealth(state) {
  const pills = Object.entries(state.upstreams).map(([name, said]) =>
    el("span", { class: said === "ok" ? "pill" : "pill bad", title: said }, said === "ok" ? name : `${name}: ${said.slice(0, 60)}`));
  if (state.ledger.away) pills.push(el("span", { class: "pill bad" }, `ledger away, ${count(state.ledger.waiting)} rows wait`));
  put("health", ...pills);
  put("spans", ...state.spans.map((name) => el("button", { type: "button", "data-span": name, "aria-pressed": String(name === span) }, name)));
  const kept = state.ledger.kept ? "recorded in the ledger" : "kept in memory only";
  const parts = [`suffice ${state.version}`, `${state.processes} ${state.processes === 1 ? "process" : "processes"}`,
    `${kept}, ${state.ledger.texts === "none" ? "without any text" : "with " + state.ledger.texts}`];
  if (state.ledger.dropped) parts.push(`${count(state.ledger.dropped)} requests were not recorded`);
  put("footer", ...parts.map((part) => el("span", {}, part)));
}

function draw(state) {
  byId("main").hidden = false;
  drawHealth(state);
  if (!state.series) return;
  drawCards(state);
  drawCertificates(state);
  drawTraffic(state);
  drawCosts(state);
  drawLatency(state);
  drawLive(state);
  drawArms(state);
  drawModels(state);
  drawFailures(state);
  drawRecent(state);
  drawKeys(state);
}

// --- asking

let shownState = null;

async function ask() {
  const key = sessionStorage.getItem(KEY);
  const headers = key ? { authorization: `Bearer ${key}` } : {};
  const answer = await fetch(`/admin/state?span=${encodeURIComponent(span)}`, { headers });
  if (answer.status === 401 || answer.status === 403) {
    const said = (await answer.json()).error.message;
    byId("main").hidden = true;
    byId("login").hidden = false;
    if (key) byId("login-why").textContent = said;
    sessionStorage.removeItem(KEY);
    return false;
  }
  if (!answer.ok) throw new Error(String(answer.status));
  byId("login").hidden = true;
  shownState = await answer.json();
  draw(shownState);
  return true;
}

let timer = null;

async function run() {
  clearTimeout(timer);
  let again = true;
  if (!document.hidden) {
    try {
      again = await ask();
      byId("offline").hidden = true;
    } catch (error) {
      console.error(error);
      byId("offline").hidden = false;
    }
  }
  if (again) timer = setTimeout(run, 1000);
}

byId("login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, byId("key").value.trim());
  byId("key").value = "";
  run();
});
byId("spans").addEventListener("click", (event) => {
  if (!event.target.dataset.span) return;
  span = event.target.dataset.span;
  run();
});
function toggle(event) {
  const row = event.target.closest("tr[data-id]");
  if (!row || !shownState) return;
  if (!opened.delete(row.dataset.id)) opened.add(row.dataset.id);
  drawRecent(shownState);
}
byId("recent").addEventListener("click", toggle);
byId("recent").addEventListener("keydown", (event) => { if (event.key === "Enter") toggle(event); });
document.addEventListener("visibilitychange", () => { if (!document.hidden) run(); });
addEventListener("resize", () => { if (shownState) draw(shownState); });
run();
