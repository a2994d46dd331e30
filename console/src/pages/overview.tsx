import { useMemo } from 'react';
import { cluster as clusterActions } from '../api/actions';
import type { NodeView, StatusView } from '../api/types';
import { ActionButtons } from '../components/action-buttons';
import { EventList } from '../components/event-list';
import { GroupCard } from '../components/group-card';
import { Links } from '../components/links';
import { MirrorLine } from '../components/mirror-line';
import { NodeMarks } from '../components/node-marks';
import { State } from '../components/parts';
import { Waiting } from '../components/waiting';
import { useText } from '../state/preferences';
import { useCluster } from '../state/store';
import { milliseconds } from '../words/amounts';
import { type Attention, attention, type Severity } from '../words/attention';
import { signs, type Tone, tone } from '../words/states';

const severityTone: Record<Severity, Tone> = { error: 'bad', warning: 'warn', note: 'unfit' };

export function Overview() {
  const { t } = useText();
  const { status, mirrors, events } = useCluster();
  const found = useMemo(() => (status ? attention(status, mirrors) : []), [status, mirrors]);
  if (!status) {
    return (
      <div className="page">
        <h1>{t('nav.overview')}</h1>
        <Waiting />
      </div>
    );
  }
  return (
    <div className="page live-data" data-testid="overview">
      <h1>{t('nav.overview')}</h1>
      <AttentionList found={found} />
      <section aria-labelledby="nodes" className="stack">
        <h2 id="nodes">{t('overview.nodes')}</h2>
        <div className="grid">
          {status.nodes.map((node) => (
            <NodeCard key={node.name} status={status} node={node} />
          ))}
          <Guarantee status={status} />
        </div>
      </section>
      <section aria-labelledby="groups" className="stack">
        <h2 id="groups">{t('overview.groups')}</h2>
        {status.groups.length === 0 && <p>{t('overview.groups.none')}</p>}
        <div className="grid">
          {status.groups.map((group) => (
            <GroupCard key={group.name} group={group} />
          ))}
        </div>
      </section>
      <section aria-labelledby="mirrors" className="card">
        <h2 id="mirrors">{t('overview.mirrors')}</h2>
        {mirrors.length === 0 && <p className="faint">{t('overview.mirrors.none')}</p>}
        {mirrors.map((mirror) => (
          <MirrorLine key={`${mirror.group}/${mirror.name}`} mirror={mirror} />
        ))}
      </section>
      <section aria-labelledby="recent" className="card">
        <h2 id="recent">{t('overview.recent')}</h2>
        <EventList events={events.slice(-6)} />
      </section>
    </div>
  );
}

function AttentionList({ found }: { found: Attention[] }) {
  const { t } = useText();
  return (
    <section aria-labelledby="attention" className="card" data-testid="attention">
      <h2 id="attention">{t('overview.attention')}</h2>
      {found.length === 0 && (
        <div className="attention tone-good">
          <span aria-hidden="true">{signs.good}</span> {t('overview.allwell')}
        </div>
      )}
      <ul className="lines">
        {found.map((item) => (
          <li key={`${item.key} ${Object.values(item.params).join(' ')} ${item.said ?? ''}`} className={`attention tone-${severityTone[item.severity]}`}>
            <span>
              <span aria-hidden="true">{signs[severityTone[item.severity]]}</span> <strong>{t(`attention.${item.severity}`)}</strong>
            </span>
            <span>{t(item.key, item.params)}</span>
            {item.link && <a href={item.link}>{t('overview.look')}</a>}
            {item.said && <span className="said">{item.said}</span>}
          </li>
        ))}
      </ul>
    </section>
  );
}

function NodeCard({ status, node }: { status: StatusView; node: NodeView }) {
  const { t } = useText();
  const names = (role: string) =>
    status.groups.filter((group) => group.nodes.some((fit) => fit.name === node.name && fit.role === role)).map((group) => group.name);
  return (
    <div className={`card tone-edge-${tone('member', node.state)}`} data-node={node.name}>
      <div className="row">
        <h3>{node.name}</h3>
        <NodeMarks status={status} node={node} />
      </div>
      <Roles title={t('overview.runs')} names={names('active')} />
      <Roles title={t('overview.standsby')} names={names('standby')} />
      <Links links={node.links} node={node.name} />
    </div>
  );
}

function Roles({ title, names }: { title: string; names: string[] }) {
  const { t } = useText();
  return (
    <div>
      <span className="faint">{title}: </span>
      {names.length === 0 ? t('common.none') : null}
      {names.map((name, index) => (
        <span key={name}>
          {index > 0 ? ', ' : ''}
          <a href={`#/groups/${encodeURIComponent(name)}`}>{name}</a>
        </span>
      ))}
    </div>
  );
}

function Guarantee({ status }: { status: StatusView }) {
  const { t, state } = useText();
  const { cluster, witness, leader } = status;
  return (
    <div className={`card tone-edge-${tone('guarantee', cluster.guarantee)}`}>
      <h3>{t('overview.guarantee')}</h3>
      <div className="row">
        <State kind="guarantee" state={cluster.guarantee} />
      </div>
      <p>{state('guarantee', cluster.guarantee).means}</p>
      <p className="faint">{cluster.guarantee_reason}</p>
      <div className="row">
        <h3>{t('overview.witness')}</h3>
        {witness ? (
          <>
            <span>{witness.name}</span> <State kind="member" state={witness.state} />
            <span>{t(witness.votes ? 'overview.witness.votes' : 'overview.witness.novote')}</span>
          </>
        ) : (
          <span>{t('overview.witness.none')}</span>
        )}
      </div>
      {witness?.disk && (
        <p className="faint">
          {t('overview.quorum', {
            path: witness.disk.path,
            time: witness.disk.round_us === null ? '–' : milliseconds(witness.disk.round_us),
          })}
        </p>
      )}
      <p className="faint">{leader ? t('overview.leader.is', { node: leader, term: status.term }) : t('overview.leader.none')}</p>
      <div className="row">
        <h3>{t('overview.automatic')}</h3>
        <span>{t(status.disarmed ? 'overview.disarm.off' : 'overview.disarm.on')}</span>
        <ActionButtons
          small
          about={cluster.name}
          offers={[{ action: status.disarmed ? clusterActions.arm() : clusterActions.disarm() }]}
        />
      </div>
    </div>
  );
}
