// Answers everything with what the dependency makes of one day, on PORT or 8080.
"use strict";

const http = require("node:http");
const ms = require("ms");

http.createServer((request, response) => response.end(`${ms("1 day")}\n`)).listen(Number(process.env.PORT ?? 8080));
