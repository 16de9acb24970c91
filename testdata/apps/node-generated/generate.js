// Writes a client of its own beside the dependencies.
"use strict";

const fs = require("node:fs");
const path = require("node:path");

const folder = path.join(__dirname, "node_modules", ".generated");
fs.mkdirSync(folder, { recursive: true });
fs.writeFileSync(path.join(folder, "client.js"), 'module.exports = "generated";\n');
