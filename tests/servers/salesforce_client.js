// jsforce against a server: prints what it read as JSON.
"use strict";
const jsforce = require("jsforce");

async function refused(call) {
  try {
    await call();
  } catch (error) {
    return error.errorCode || error.name;
  }
  return "";
}

async function main(url, clientId, clientSecret, refreshToken) {
  const oauth2 = new jsforce.OAuth2({ loginUrl: url, clientId, clientSecret });
  // A session that has expired: it is renewed with the refresh token.
  const connection = new jsforce.Connection({
    oauth2, instanceUrl: url, accessToken: "00D!expired", refreshToken, version: "60.0",
  });
  const names = async (query) => {
    const found = [];
    await new Promise((resolve, reject) =>
      query.on("record", (one) => found.push(one.Name)).on("end", resolve).on("error", reject)
        .run({ autoFetch: true, maxFetch: 10000 }));
    return found;
  };
  const query = connection.query("SELECT Name FROM Account ORDER BY Name", {
    headers: { "Sforce-Query-Options": "batchSize=200" },
  });
  const all = await names(query);
  const described = await connection.describe("Account");
  const bulk = await connection.bulk2.query("SELECT Id, Name FROM Account", { pollInterval: 5, pollTimeout: 5000 });
  const rows = await bulk.toArray();
  const everything = await connection.bulk2.query("SELECT Id FROM Account", {
    scanAll: true, pollInterval: 5, pollTimeout: 5000,
  });
  const found = {
    all: all.length,
    first: all[0],
    compound: described.fields.filter((one) => one.type === "address").map((one) => one.name),
    bulk: rows.length,
    bulkNames: [...new Set(rows.map((one) => typeof one.Name))],
    bulkAll: (await everything.toArray()).length,
    global: (await connection.describeGlobal()).sobjects.length,
    usage: connection.limitInfo.apiUsage.limit,
    refused: [
      await refused(() => connection.query("SELECT Id, FROM Account")),
      await refused(() => connection.query("SELECT Nope FROM Account")),
      await refused(() => connection.queryMore("01g000000000000AAA-2000")),
      await refused(() => connection.bulk2.query("SELECT BillingAddress FROM Account")),
      await refused(() => oauth2.refreshToken("wrong")),
    ],
  };
  console.log(JSON.stringify(found));
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
