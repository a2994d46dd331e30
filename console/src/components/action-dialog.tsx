// Every action goes through this: what it means, what would happen, the command, then the live steps.

import { Alert, Button, Input, Modal, Select, Spin } from 'antd';
import { useEffect, useRef, useState } from 'react';
import { type Action, may } from '../api/actions';
import { post } from '../api/client';
import type { StatusView } from '../api/types';
import type { Key } from '../i18n/translate';
import { useText } from '../state/preferences';
import { useMe } from '../state/session';
import { useCluster } from '../state/store';
import { LiveSteps } from './live-steps';
import { Cli, ProblemBox } from './parts';

/** Lets the person choose the node an action is made for. */
export interface Choice {
  nodes: { name: string; fit: boolean; reason: string }[];
  make: (node?: string) => Action;
}

interface Props {
  action: Action;
  choice?: Choice;
  onClose: () => void;
}

type Run =
  | { stage: 'before' }
  | { stage: 'asking' }
  | { stage: 'done'; text: string; before: StatusView | null; since: number }
  | { stage: 'failed'; error: unknown };

export function ActionDialog({ action: given, choice, onClose }: Props) {
  const { t } = useText();
  const { role } = useMe();
  const { status, events } = useCluster();
  const [node, setNode] = useState<string | undefined>(given.about.node);
  const [typed, setTyped] = useState('');
  const [run, setRun] = useState<Run>({ stage: 'before' });
  const action = choice ? choice.make(node) : given;
  const preview = usePreview(action, run.stage === 'before');
  const allowed = may(role, action.needs);
  const confirmed = !action.typed || typed.trim() === action.typed;
  const title = t(`action.${action.id}.title` as Key, params(action));

  const go = async () => {
    const since = events.at(-1)?.number ?? 0;
    const before = status;
    setRun({ stage: 'asking' });
    try {
      const { text } = await post<{ text: string }>(action.path, action.body);
      setRun({ stage: 'done', text, before, since });
    } catch (error) {
      setRun({ stage: 'failed', error });
    }
  };

  // The button that was pressed is gone then, and with it the focus that the dialogue hears Escape by.
  const over = run.stage === 'done' || run.stage === 'failed';
  const close = useRef(onClose);
  close.current = onClose;
  useEffect(() => {
    if (!over) return undefined;
    const pressed = (event: KeyboardEvent) => event.key === 'Escape' && close.current();
    document.addEventListener('keydown', pressed);
    return () => document.removeEventListener('keydown', pressed);
  }, [over]);

  const ready = allowed && confirmed && !preview.loading && preview.error === null;
  const footer =
    run.stage === 'before' || run.stage === 'asking' ? (
      <>
        <Button onClick={onClose}>{t('common.cancel')}</Button>
        <Button
          type="primary"
          danger={action.danger}
          disabled={!ready}
          loading={run.stage === 'asking'}
          onClick={() => void go()}
          data-testid="do"
        >
          {t(`action.${action.id}` as Key)}
        </Button>
      </>
    ) : (
      <Button type="primary" onClick={onClose} data-testid="close">
        {t('app.close')}
      </Button>
    );

  return (
    <Modal open title={title} onCancel={onClose} footer={footer} width={640} closable={{ 'aria-label': t('app.close') }} destroyOnHidden>
      <div className="stack" data-testid="action-dialog">
        <p className="lead">{t(`action.${action.id}.means` as Key, params(action))}</p>
        {action.danger && run.stage === 'before' && <Alert type="warning" showIcon message={t('action.danger')} />}
        {!allowed && <Alert type="error" message={t(`role.needs.${action.needs}` as Key, { role: t(`role.${role}`) })} />}
        {run.stage === 'before' && choice && <Target choice={choice} node={node} choose={setNode} />}
        {run.stage === 'before' && <Preview action={action} preview={preview} />}
        {run.stage === 'before' && action.typed && (
          <label className="stack">
            <span>{t('action.typed', { word: action.typed })}</span>
            <Input value={typed} onChange={(event) => setTyped(event.target.value)} autoComplete="off" data-testid="typed" />
          </label>
        )}
        {run.stage === 'failed' && <ProblemBox error={run.error} />}
        {run.stage === 'done' && <LiveSteps action={action} text={run.text} before={run.before} since={run.since} />}
        <Cli command={action.cli} />
      </div>
    </Modal>
  );
}

function params(action: Action): Record<string, string | number> {
  const { group = '', resource = '', node = '', mirror = '', revision = '' } = action.about;
  return { group, resource, node, mirror, revision };
}

function Target({ choice, node, choose }: { choice: Choice; node?: string; choose: (node?: string) => void }) {
  const { t } = useText();
  const chosen = choice.nodes.find((view) => view.name === node);
  const options = [
    { value: '', label: t('action.target.best') },
    ...choice.nodes.map((view) => ({ value: view.name, label: view.name })),
  ];
  return (
    <div className="stack">
      <label htmlFor="target">{t('action.target')}</label>
      <Select id="target" value={node ?? ''} options={options} onChange={(value) => choose(value || undefined)} />
      <div>
        <strong>{t('action.precheck')}</strong>
        {(chosen ? [chosen] : choice.nodes).map((view) => (
          <div key={view.name} className={view.fit ? 'tone-text-good' : 'tone-text-bad'}>
            {view.fit ? '✓ ' : '✕ '}
            {t(view.fit ? 'action.precheck.ok' : 'action.precheck.bad', { node: view.name, reason: view.reason })}
          </div>
        ))}
      </div>
    </div>
  );
}

interface PreviewState {
  text: string | null;
  error: unknown;
  loading: boolean;
}

/** What would happen, asked anew for each choice; an answer to an earlier one is not taken. */
function usePreview(action: Action, wanted: boolean): PreviewState {
  const [found, setFound] = useState<PreviewState>({ text: null, error: null, loading: true });
  const name = `${action.path} ${JSON.stringify(action.body)}`;
  const asked = useRef(action);
  asked.current = action;
  useEffect(() => {
    if (!wanted) return undefined;
    if (!asked.current.preview) {
      setFound({ text: null, error: null, loading: false });
      return undefined;
    }
    let current = true;
    setFound({ text: null, error: null, loading: true });
    post<{ text: string }>(`${asked.current.path}?dry_run=true`, asked.current.body).then(
      ({ text }) => current && setFound({ text, error: null, loading: false }),
      (error: unknown) => current && setFound({ text: null, error, loading: false }),
    );
    return () => {
      current = false;
    };
  }, [name, wanted]);
  return found;
}

function Preview({ action, preview }: { action: Action; preview: PreviewState }) {
  const { t } = useText();
  if (!action.preview) return <p>{t('action.preview.none')}</p>;
  if (preview.loading) {
    return (
      <p aria-live="polite">
        <Spin size="small" /> {t('action.preview.loading')}
      </p>
    );
  }
  if (preview.error !== null) return <ProblemBox error={preview.error} />;
  return (
    <div className="preview" data-testid="preview" aria-live="polite">
      <strong>{t('action.preview')}</strong>
      <div className="pre">{preview.text}</div>
    </div>
  );
}
