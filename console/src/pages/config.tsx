import { Alert, Button, Input, Modal } from 'antd';
import { useState } from 'react';
import { config as actions, may } from '../api/actions';
import { get, post } from '../api/client';
import type { Checked, ConfigText, RevisionView } from '../api/types';
import { ActionButtons } from '../components/action-buttons';
import { Cli, Mark, ProblemBox } from '../components/parts';
import { useLoad } from '../components/use-load';
import { useText } from '../state/preferences';
import { useMe } from '../state/session';
import { useCluster } from '../state/store';
import { pieces } from '../words/toml';

export default function Config() {
  const { t } = useText();
  const { role } = useMe();
  const { status } = useCluster();
  const inForce = status?.cluster.revision ?? 0;
  const [editing, setEditing] = useState<ConfigText | null>(null);
  const current = useLoad<ConfigText>(`config ${inForce}`, () => get('/config'));
  const history = useLoad<RevisionView[]>(`history ${inForce}`, () => get('/config/history'));
  const [shown, setShown] = useState<number | null>(null);
  const allowed = may(role, 'administrator');
  return (
    <div className="page">
      <div className="head">
        <h1>{t('config.title')}</h1>
        {current.data && <span>{t('config.revision', { revision: current.data.revision })}</span>}
      </div>
      {current.error !== null && <ProblemBox error={current.error} />}
      {!allowed && <Alert type="info" showIcon message={t('config.readonly')} />}
      {editing ? (
        <Editor from={editing} inForce={inForce} onClose={() => setEditing(null)} />
      ) : (
        <section className="card">
          {current.data && <Source text={current.data.text} />}
          {allowed && current.data && (
            <div>
              <Button type="primary" onClick={() => setEditing(current.data)} data-testid="edit">
                {t('config.edit')}
              </Button>
            </div>
          )}
          <Cli command="hotpair config show" />
        </section>
      )}
      <section aria-labelledby="history" className="card">
        <h2 id="history">{t('config.history')}</h2>
        {history.error !== null && <ProblemBox error={history.error} />}
        {history.data && <History revisions={history.data} inForce={inForce} show={setShown} />}
        <Cli command="hotpair config history" />
      </section>
      {shown !== null && <Revision revision={shown} onClose={() => setShown(null)} />}
    </div>
  );
}

export function Source({ text }: { text: string }) {
  const { t } = useText();
  return (
    <pre className="toml" tabIndex={0} role="region" aria-label={t('config.text')}>
      {pieces(text).map((piece, index) => (
        <span key={index} className={`toml-${piece.kind}`}>
          {piece.text}
        </span>
      ))}
    </pre>
  );
}

function Editor({ from, inForce, onClose }: { from: ConfigText; inForce: number; onClose: () => void }) {
  const { t } = useText();
  const [text, setText] = useState(from.text);
  const [checked, setChecked] = useState<{ text: string; result: Checked } | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const [asking, setAsking] = useState(false);
  const [applied, setApplied] = useState<string | null>(null);
  const fits = checked?.text === text ? checked.result : null;

  const attempt = async (work: () => Promise<void>) => {
    setBusy(true);
    setError(null);
    try {
      await work();
    } catch (failure) {
      setError(failure);
    } finally {
      setBusy(false);
    }
  };
  const check = () =>
    attempt(async () => setChecked({ text, result: await post<Checked>('/config/check', { text }) }));
  const apply = () =>
    attempt(async () => {
      setAsking(false);
      const said = await post<{ text: string }>('/config/apply', { text, revision: from.revision });
      setApplied(said.text);
    });
  if (applied !== null) {
    return (
      <Alert
        type="success"
        showIcon
        message={t('config.applied')}
        description={<span className="pre">{applied}</span>}
        action={<Button onClick={onClose}>{t('app.close')}</Button>}
        data-testid="applied"
      />
    );
  }
  const moved = inForce > from.revision;
  return (
    <section className="card editor">
      <label htmlFor="toml">{t('config.text')}</label>
      <Input.TextArea id="toml" value={text} autoSize={{ minRows: 14, maxRows: 30 }} spellCheck={false} onChange={(event) => setText(event.target.value)} />
      {moved && <Alert type="warning" showIcon message={t('config.moved', { revision: inForce, from: from.revision })} />}
      <div className="actions">
        <Button onClick={() => void check()} loading={busy} data-testid="check">
          {t('config.check')}
        </Button>
        <Button type="primary" danger disabled={!fits?.ok || moved || busy} onClick={() => setAsking(true)} data-testid="apply">
          {t('config.apply')}
        </Button>
        <Button onClick={onClose}>{t('config.discard')}</Button>
        {!fits && <span className="faint">{t('config.checkfirst')}</span>}
      </div>
      {error !== null && <ProblemBox error={error} />}
      <div aria-live="polite">{fits && <Findings checked={fits} />}</div>
      <Cli command="hotpair config check FILE && hotpair config apply FILE" />
      <Modal
        open={asking}
        title={t('config.apply.title')}
        okText={t('config.apply')}
        cancelText={t('common.cancel')}
        okButtonProps={{ danger: true }}
        closable={{ 'aria-label': t('app.close') }}
        onOk={() => void apply()}
        onCancel={() => setAsking(false)}
      >
        <div className="stack">
          <p>{t('config.apply.means', { revision: from.revision })}</p>
          {fits && <Changes changes={fits.changes} />}
        </div>
      </Modal>
    </section>
  );
}

function Findings({ checked }: { checked: Checked }) {
  const { t } = useText();
  return (
    <div className="stack" data-testid="findings">
      <Alert type={checked.ok ? 'success' : 'error'} showIcon message={t(checked.ok ? 'config.ok' : 'config.bad')} />
      {checked.rendered.trim() !== '' && (
        <>
          <h2 id="findings">{t('config.findings')}</h2>
          <pre className="toml" tabIndex={0} role="region" aria-labelledby="findings">
            {checked.rendered}
          </pre>
        </>
      )}
      {checked.ok && <Changes changes={checked.changes} />}
    </div>
  );
}

function Changes({ changes }: { changes: string[] }) {
  const { t } = useText();
  return (
    <div className="preview">
      <strong>{t('config.changes')}</strong>
      {changes.length === 0 && <p>{t('config.nochanges')}</p>}
      <ul>
        {changes.map((change) => (
          <li key={change}>{change}</li>
        ))}
      </ul>
    </div>
  );
}

function History({ revisions, inForce, show }: { revisions: RevisionView[]; inForce: number; show: (revision: number) => void }) {
  const { t, time } = useText();
  return (
    <div className="scroll" tabIndex={0} role="region" aria-labelledby="history">
      <table className="flat">
        <thead>
          <tr>
            <th scope="col">{t('config.history.revision')}</th>
            <th scope="col">{t('config.history.time')}</th>
            <th scope="col">{t('config.history.summary')}</th>
            <th scope="col">{t('common.actions')}</th>
          </tr>
        </thead>
        <tbody>
          {revisions.map((revision) => (
            <tr key={revision.revision}>
              <td>
                {revision.revision} {revision.revision === inForce && <Mark tone="good">{t('config.current')}</Mark>}
              </td>
              <td>{time(revision.time)}</td>
              <td>{revision.summary}</td>
              <td>
                <div className="actions">
                  <Button size="small" onClick={() => show(revision.revision)} aria-label={`${t('config.show')}: ${revision.revision}`}>
                    {t('config.show')}
                  </Button>
                  {revision.revision !== inForce && (
                    <ActionButtons small offers={[{ action: actions.rollback(revision.revision) }]} about={String(revision.revision)} />
                  )}
                </div>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Revision({ revision, onClose }: { revision: number; onClose: () => void }) {
  const { t } = useText();
  const found = useLoad<ConfigText>(String(revision), () => get(`/config?revision=${revision}`));
  return (
    <Modal open title={t('config.shown', { revision })} footer={null} width={800} onCancel={onClose} closable={{ 'aria-label': t('app.close') }}>
      {found.error !== null && <ProblemBox error={found.error} />}
      {found.data && <Source text={found.data.text} />}
    </Modal>
  );
}
