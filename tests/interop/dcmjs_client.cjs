// Drives every service that dcmjs' dicomweb-client knows, under node:
//   node dcmjs_client.cjs FOLDER-OF-NODE_MODULES URL FILE...
// The last line of its output is one object of JSON: what each call came to.
"use strict";

const fs = require("node:fs");
const { createHash } = require("node:crypto");
const { createRequire } = require("node:module");
const path = require("node:path");

// What the client needs of a browser's XMLHttpRequest, over node's fetch.
globalThis.XMLHttpRequest = class {
  constructor() {
    this.readyState = 0;
    this.status = 0;
    this.responseType = "";
    this.response = null;
    this.fields = {};
  }
  open(method, url) {
    this.method = method.toUpperCase();
    this.url = url;
  }
  setRequestHeader(name, value) {
    this.fields[name] = value;
  }
  getResponseHeader(name) {
    return this.answer ? this.answer.headers.get(name) : null;
  }
  getAllResponseHeaders() {
    return [...this.answer.headers].map(([name, value]) => `${name}: ${value}\r\n`).join("");
  }
  async send(body) {
    if (this.onloadstart) this.onloadstart();
    this.answer = await fetch(this.url, { method: this.method, headers: this.fields, body });
    this.status = this.answer.status;
    const data = await this.answer.arrayBuffer();
    if (this.responseType === "arraybuffer") {
      this.response = data;
    } else {
      const text = new TextDecoder().decode(data);
      this.response = this.responseType === "json" && text ? JSON.parse(text) : text;
    }
    this.readyState = 4;
    if (this.onreadystatechange) this.onreadystatechange();
    if (this.onloadend) this.onloadend();
  }
};

const [modules, url, ...files] = process.argv.slice(2);
const { api } = createRequire(path.join(modules, "node_modules", "x"))("dicomweb-client");

function buffer(file) {
  const data = fs.readFileSync(file);
  return data.buffer.slice(data.byteOffset, data.byteOffset + data.length);
}

function digests(parts) {
  return parts.map((part) => createHash("sha256").update(Buffer.from(part)).digest("hex"));
}

async function main() {
  const client = new api.DICOMwebClient({ url, verbose: false });
  const found = {};
  // A response to storing is text here.
  const stored = await client.storeInstances({ datasets: files.map(buffer) });
  found.stored = typeof stored === "string" ? JSON.parse(stored) : stored;
  found.studies = await client.searchForStudies({ queryParams: { AccessionNumber: "A1" } });
  const study = { studyInstanceUID: found.studies[0]["0020000D"].Value[0] };
  found.series = await client.searchForSeries(study);
  const series = { ...study, seriesInstanceUID: found.series[0]["0020000E"].Value[0] };
  found.instances = await client.searchForInstances(series);
  found.nobody = await client.searchForStudies({ queryParams: { PatientID: "NOBODY" } });
  const instance = { ...series, sopInstanceUID: found.instances[0]["00080018"].Value[0] };
  found.studyMetadata = await client.retrieveStudyMetadata(study);
  found.seriesMetadata = await client.retrieveSeriesMetadata(series);
  const metadata = await client.retrieveInstanceMetadata(instance);
  found.instanceMetadata = metadata;
  found.instance = digests([await client.retrieveInstance(instance)])[0];
  found.seriesObjects = digests(await client.retrieveSeries(series));
  found.studyObjects = digests(await client.retrieveStudy(study));
  const frames = { ...instance, frameNumbers: [1] };
  found.frames = digests(await client.retrieveInstanceFrames(frames));
  const octets = [{ mediaType: "application/octet-stream", transferSyntaxUID: "*" }];
  found.framesAsStored = digests(
    await client.retrieveInstanceFrames({ ...frames, mediaTypes: octets })
  );
  const pixels = metadata[0]["7FE00010"].BulkDataURI;
  found.bulkData = digests(await client.retrieveBulkData({ BulkDataURI: pixels }));
  const single = new api.DICOMwebClient({ url, singlepart: "bulkdata" });
  const headers = { Range: "bytes=10-19" };
  found.part = digests(await single.retrieveBulkData({ BulkDataURI: pixels, headers }));
  const picture = { mediaTypes: [{ mediaType: "image/jpeg" }] };
  const first = async (call, options) => {
    const answer = await call.call(client, { ...options, ...picture });
    return Buffer.from(Array.isArray(answer) ? answer[0] : answer).subarray(0, 2).toString("hex");
  };
  found.rendered = [
    await first(client.retrieveInstanceRendered, instance),
    await first(client.retrieveInstanceThumbnail, instance),
    await first(client.retrieveInstanceFramesRendered, frames),
    await first(client.retrieveInstanceFramesThumbnail, frames),
  ];
  try {
    await client.retrieveInstanceMetadata({ ...instance, sopInstanceUID: "1.2.3" });
    found.missing = 200;
  } catch (error) {
    found.missing = error.status;
  }
  process.stdout.write(`\n${JSON.stringify(found)}\n`);
}

main().catch((error) => {
  console.error(error.status || "", error.message, error.response || "", error.stack);
  process.exitCode = 1;
});
