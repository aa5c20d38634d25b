// Parses and binds each query of a file with Microsoft's own KQL parser against the table's columns; blank lines part the queries.
//   node azure_queries.js NODE_MODULES QUERIES.kql
'use strict';
const path = require('path');
const fs = require('fs');
const modules = path.resolve(process.argv[2]);
require(path.join(modules, '@kusto/language-service-next/bridge.min.js'));
require(path.join(modules, '@kusto/language-service-next/Kusto.Language.Bridge.min.js'));
const Language = global.Kusto.Language;
const schema = '(TimeGenerated: datetime, Computer: string, ContainerId: string, ContainerName: string, PodName: string, PodNamespace: string, ' +
  'LogMessage: dynamic, LogSource: string, LogLevel: string, KubernetesMetadata: dynamic, TenantId: string, Type: string, _ResourceId: string, _BilledSize: real)';
const table = new Language.Symbols.TableSymbol.$ctor7('ContainerLogV2', schema, '');
const database = new Language.Symbols.DatabaseSymbol.$ctor1('workspace', [table]);
const globals = Language.GlobalState.Default.WithDatabase(database);

function problems(text) {
  const code = Language.KustoCode.ParseAndAnalyze(text, globals);
  const found = [];
  const diagnostics = code.GetDiagnostics();
  for (let i = 0; i < diagnostics.Count; i++) found.push(diagnostics.getItem(i).Message);
  return found;
}

// A parser that finds nothing in these finds nothing at all.
for (const bad of ['ContainerLogV2 | where Nonsense == 1', 'ContainerLogV2 | wehre PodName == "x"', 'NoTable | count']) {
  if (!problems(bad).length) { console.error(`not noticed: ${bad}`); process.exit(1); }
}
const queries = fs.readFileSync(process.argv[3], 'utf8').split(/\n\s*\n/).filter(one => one.split('\n').some(line => line.trim() && !line.startsWith('//')));
let bad = 0;
for (const query of queries) {
  for (const message of problems(query)) { bad++; console.error(`${query.split('\n')[0]}: ${message}`); }
}
console.log(` ${queries.length} queries, ${bad} problems`);
process.exit(bad || !queries.length ? 1 : 0);
