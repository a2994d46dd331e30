import { Button, Select } from 'antd';
import { useState } from 'react';
import { simulateCommand } from '../api/actions';
import { post } from '../api/client';
import type { StatusView } from '../api/types';
import { Cli, ProblemBox } from '../components/parts';
import { Waiting } from '../components/waiting';
import { useText } from '../state/preferences';
import { useCluster } from '../state/store';

type Result = { lines: string[] } | { error: unknown };

export default function WhatIf() {
  const { t } = useText();
  const { status } = useCluster();
  const [fail, setFail] = useState<string | null>(null);
  const [result, setResult] = useState<Result | null>(null);
  const [busy, setBusy] = useState(false);
  if (!status) return <Waiting />;
  const chosen = fail ?? status.nodes[0]?.name ?? '';
  const ask = async () => {
    setBusy(true);
    try {
      setResult(await post<{ lines: string[] }>('/simulate', { fail: chosen }));
    } catch (error) {
      setResult({ error });
    } finally {
      setBusy(false);
    }
  };
  return (
    <div className="page">
      <h1>{t('whatif.title')}</h1>
      <section className="card">
        <p>{t('whatif.intro')}</p>
        <div className="filters">
          <label htmlFor="fault">
            {t('whatif.fault')}
            <Select
              id="fault"
              style={{ width: 320, maxWidth: '80vw' }}
              value={chosen}
              options={faults(status, t)}
              onChange={(value) => {
                setFail(value);
                setResult(null);
              }}
            />
          </label>
          <Button type="primary" loading={busy} onClick={() => void ask()} data-testid="ask">
            {t('whatif.ask')}
          </Button>
        </div>
        <div aria-live="polite" className="stack">
          {result && 'error' in result && <ProblemBox error={result.error} />}
          {result && 'lines' in result && <Lines lines={result.lines} />}
        </div>
        <Cli command={simulateCommand(chosen)} />
      </section>
    </div>
  );
}

function faults(status: StatusView, t: ReturnType<typeof useText>['t']) {
  const links = [...new Set(status.nodes.flatMap((node) => node.links.map((link) => link.name)))];
  return [
    { label: t('whatif.nodes'), options: status.nodes.map(({ name }) => ({ value: name, label: t('whatif.node', { name }) })) },
    {
      label: t('whatif.links'),
      options: [
        ...(status.witness ? [{ value: 'witness', label: t('whatif.witness', { name: status.witness.name }) }] : []),
        ...links.map((name) => ({ value: name, label: t('whatif.link', { name }) })),
      ],
    },
    {
      label: t('whatif.resources'),
      options: status.groups.flatMap((group) =>
        group.resources.map((resource) => {
          const name = `${group.name}/${resource.name}`;
          return { value: name, label: t('whatif.resource', { name }) };
        }),
      ),
    },
  ];
}

/** Lines of the account; deeper ones belong to the one above. */
function Lines({ lines }: { lines: string[] }) {
  const { t } = useText();
  if (lines.length === 0) return <p>{t('whatif.nothing')}</p>;
  return (
    <div className="preview" data-testid="what-if">
      <strong>{t('whatif.result')}</strong>
      <ol className="lines">
        {lines.map((line, index) => (
          // Lines may be the same twice and never change places.
          <li key={`${index} ${line}`} style={{ paddingInlineStart: (line.length - line.trimStart().length) * 8 }}>
            {line.trim()}
          </li>
        ))}
      </ol>
    </div>
  );
}
