// Answers everything with what the build script generated, on PORT or 8080.
"use strict";

const http = require("node:http");
const path = require("node:path");
const client = require(path.join(__dirname, "node_modules", ".generated", "client.js"));

http.createServer((request, response) => response.end(`${client}\n`)).listen(Number(process.env.PORT ?? 8080));
