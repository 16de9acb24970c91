// Answers / with JSON and /page with the file that the build script wrote, on PORT or 8080.
"use strict";

const path = require("node:path");
const express = require("express");

const app = express();
const page = path.join(__dirname, "dist", "page.html");

app.get("/", (request, response) => {
  response.json({
    app: "node-express",
    node: process.version,
    environment: process.env.NODE_ENV ?? null,
    developmentDependencies: isInstalled("mustache"),
  });
});
app.get("/page", (request, response) => response.sendFile(page));

const server = app.listen(Number(process.env.PORT ?? 8080), () => {
  console.log(`listening on ${server.address().port}`);
});
for (const signal of ["SIGTERM", "SIGINT"]) {
  process.once(signal, () => server.close());
}

function isInstalled(name) {
  try {
    require.resolve(name);
    return true;
  } catch {
    return false;
  }
}
