// Reads and is refused through Linear's own SDK; prints what came as JSON.
import { LinearClient } from "@linear/sdk";

const [url, key] = process.argv.slice(2);
const client = new LinearClient({ apiKey: key, apiUrl: `${url}/graphql` });
const found = {};

async function refusal(work) {
  try {
    await work();
    return null;
  } catch (error) {
    return {
      name: error.constructor.name,
      type: error.type,
      status: error.status ?? null,
      message: error.errors?.[0]?.message ?? null,
      remaining: error.requestsRemaining ?? null,
      resets: error.requestsResetAt ?? null,
    };
  }
}

async function all(connection) {
  while (connection.pageInfo.hasNextPage) await connection.fetchNext();
  return connection.nodes;
}

found.viewer = (await client.viewer).name;
const issues = await all(await client.issues({ first: 2, orderBy: "createdAt" }));
found.issues = issues.map((one) => [one.identifier, one.title, one.priority, one.createdAt.toISOString(), one.trashed ?? null]);
found.archived = (await all(await client.issues({ includeArchived: true }))).map((one) => one.identifier);
const last = issues[issues.length - 1];
found.labels = (await all(await last.labels({ first: 1 }))).map((one) => one.name);
found.comments = (await all(await last.comments({ first: 1 }))).map((one) => one.body);
found.team = (await last.team).key;
found.state = (await last.state).type;
found.assignee = (await last.assignee)?.name ?? null;
found.since = (await client.issues({ filter: { updatedAt: { gt: "2026-01-01T00:02:00.000Z", lte: "2026-01-01T00:04:00.000Z" } } })).nodes.map(
  (one) => one.identifier,
);
found.backwards = (await client.issues({ last: 2 })).nodes.map((one) => one.identifier);
found.cycles = (await client.cycles()).nodes.map((one) => one.number);
found.teams = (await client.teams()).nodes.map((one) => one.key);
found.projects = await Promise.all((await client.projects()).nodes.map(async (one) => [one.name, (await one.members()).nodes.length]));
found.users = (await client.users()).nodes.map((one) => one.name);
found.states = (await client.workflowStates()).nodes.map((one) => one.name);
found.milestones = (await client.projectMilestones()).nodes.map((one) => one.name);
found.attachments = (await client.attachments()).nodes.map((one) => one.url);
found.missing = await refusal(() => client.issue("00000000-0000-0000-0000-000000000000"));
found.wide = await refusal(() => client.workflowStates({ first: 251 }));
found.stranger = await refusal(() => new LinearClient({ apiKey: "lin_api_no", apiUrl: `${url}/graphql` }).viewer);
found.bearer = await refusal(() => new LinearClient({ accessToken: key, apiUrl: `${url}/graphql` }).viewer);
found.raw = (await client.client.rawRequest("query { teams(first: 1) { nodes { id } } }")).headers.get("x-complexity");
found.limited = await refusal(async () => {
  for (let count = 0; count < 100; count++) await client.viewer;
});
console.log(JSON.stringify(found));
