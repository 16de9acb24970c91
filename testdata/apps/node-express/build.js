// Writes dist/page.html from a template with mustache, which is a development dependency: the file shows that it
// was there for the build. The same input gives the same bytes: no time, no version, no path.
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const mustache = require("mustache");

const template = fs.readFileSync(path.join(__dirname, "page.mustache"), "utf8");
const page = mustache.render(template, { title: "node-express", numbers: [1, 2, 3] });

fs.mkdirSync(path.join(__dirname, "dist"), { recursive: true });
fs.writeFileSync(path.join(__dirname, "dist", "page.html"), page);
console.log(`wrote dist/page.html, ${Buffer.byteLength(page)} bytes`);
