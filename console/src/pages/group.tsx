import { group as actions } from '../api/actions';
import { get, seg } from '../api/client';
import type { ExplainView, FitView, GraphView, GroupView } from '../api/types';
import { ActionButtons, type Offer } from '../components/action-buttons';
import { EventList } from '../components/event-list';
import { GroupMarks } from '../components/group-card';
import { groupOffers, resourceOffers } from '../components/group-offers';
import { Cli, ProblemBox, State } from '../components/parts';
import { Picture, useKindName } from '../components/picture';
import { useLoad } from '../components/use-load';
import { Waiting } from '../components/waiting';
import { useText } from '../state/preferences';
import { useCluster } from '../state/store';
import { tone } from '../words/states';

export default function Group({ name }: { name: string }) {
  const { t } = useText();
  const { status, events } = useCluster();
  if (!status) return <Waiting />;
  const group = status.groups.find((view) => view.name === name);
  if (!group) {
    return (
      <div className="page">
        <h1>{t('group.title', { group: name })}</h1>
        <p>{t('group.none', { group: name })}</p>
      </div>
    );
  }
  const revision = status.cluster.revision;
  return (
    <div className="page live-data" data-testid="group" data-group-page={name}>
      <Head group={group} />
      <Dependencies group={group} revision={revision} />
      <section aria-labelledby="fits" className="stack">
        <h2 id="fits">{t('group.nodes')}</h2>
        <div className="grid">
          {group.nodes.map((fit) => (
            <Fit key={fit.name} group={group} fit={fit} />
          ))}
        </div>
      </section>
      <Resources group={group} />
      <Explain group={group} />
      <section aria-labelledby="group-events" className="card">
        <h2 id="group-events">{t('group.events')}</h2>
        <EventList events={events.filter((event) => event.group === name).slice(-12)} />
      </section>
    </div>
  );
}

function Head({ group }: { group: GroupView }) {
  const { t, state } = useText();
  const { offers, more } = groupOffers(group);
  return (
    <section className={`card tone-edge-${tone('group', group.state)}`} aria-labelledby="title">
      <div className="head">
        <h1 id="title">{t('group.title', { group: group.name })}</h1>
        <GroupMarks group={group} />
        {group.active_on.length > 0 && <span>{t('overview.activeOn', { nodes: group.active_on.join(', ') })}</span>}
      </div>
      <p>{state('group', group.state).means}</p>
      <p>
        <span className="faint">{t('group.verdict')}:</span> {group.verdict}
      </p>
      {group.reason && (
        <p>
          <span className="faint">{t('group.reason')}:</span> {group.reason}
        </p>
      )}
      {group.pinned && <p>{group.pinned}</p>}
      {group.relations && group.relations.length > 0 && (
        <p>
          <span className="faint">{t('group.relations')}:</span> {group.relations.join('; ')}
        </p>
      )}
      <ActionButtons offers={offers} more={more} about={t('group.title', { group: group.name })} />
    </section>
  );
}

function Dependencies({ group, revision }: { group: GroupView; revision: number }) {
  const { t } = useText();
  const graph = useLoad<GraphView>(`${group.name} ${revision}`, () => get(`/groups/${seg(group.name)}/graph`));
  return (
    <section aria-labelledby="picture" className="card">
      <h2 id="picture">{t('group.picture')}</h2>
      <p className="faint">{t('group.picture.means')}</p>
      {graph.error !== null && <ProblemBox error={graph.error} />}
      {graph.data ? <Picture graph={graph.data} group={group} /> : <div className="picture" />}
    </section>
  );
}

function Fit({ group, fit }: { group: GroupView; fit: FitView }) {
  const { t, state } = useText();
  const here: Offer[] = [
    { action: actions.disable(group.name, fit.name) },
    { action: actions.enable(group.name, fit.name) },
    { action: actions.clear(group.name, fit.name) },
    { action: actions.maintenance(group.name, true, fit.name) },
    { action: actions.maintenance(group.name, false, fit.name) },
  ];
  return (
    <div className={`card tone-edge-${tone('role', fit.role)}`} data-fit={fit.name}>
      <div className="row">
        <h3>{fit.name}</h3>
        <State kind="role" state={fit.role} />
        <ActionButtons small offers={[]} more={here} about={`${group.name} · ${fit.name}`} />
      </div>
      <p className="faint">{state('role', fit.role).means}</p>
      {fit.reason ? (
        <p>
          {t('common.why')}: {fit.reason}
        </p>
      ) : (
        fit.fit && <p>{t('group.fit')}</p>
      )}
    </div>
  );
}

function Resources({ group }: { group: GroupView }) {
  const { t } = useText();
  const kindName = useKindName();
  return (
    <section aria-labelledby="resources" className="card">
      <h2 id="resources">{t('group.resources')}</h2>
      <div className="scroll" tabIndex={0} role="region" aria-labelledby="resources">
        <table className="flat">
          <thead>
            <tr>
              <th scope="col">{t('group.column.resource')}</th>
              <th scope="col">{t('group.column.kind')}</th>
              <th scope="col">{t('group.column.state')}</th>
              <th scope="col">{t('group.column.detail')}</th>
              <th scope="col">{t('common.actions')}</th>
            </tr>
          </thead>
          <tbody>
            {group.resources.map((view) => (
              <tr key={view.name}>
                <td>{view.name}</td>
                <td>{kindName(view.kind)}</td>
                <td>
                  <State kind="resource" state={view.state} />
                </td>
                <td>
                  {view.detail}
                  {view.restarts > 0 ? ` ${t('group.restarts', { count: view.restarts })}` : ''}
                </td>
                <td>
                  <ActionButtons small offers={[]} more={resourceOffers(group, view)} about={view.name} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function Explain({ group }: { group: GroupView }) {
  const { t, language } = useText();
  // The verdict changes with every decision.
  const name = `${language} ${group.name} ${group.epoch} ${group.state} ${group.verdict}`;
  const explain = useLoad<ExplainView>(name, () => get(`/groups/${seg(group.name)}/explain`));
  const decisions = explain.data?.decisions ?? [];
  return (
    <section aria-labelledby="explain" className="card">
      <h2 id="explain">{t('group.explain')}</h2>
      {explain.error !== null && <ProblemBox error={explain.error} />}
      {explain.data && decisions.length === 0 && <p>{t('group.explain.none')}</p>}
      <ol className="lines">
        {decisions.toReversed().map((decision) => (
          <li key={`${decision.version} ${decision.reason}`}>
            <span className="mono faint">{decision.version}</span>{' '}
            <strong>
              {t('group.explain.step', { from: decision.from ?? t('common.nobody'), to: decision.to ?? t('common.nobody') })}
            </strong>
            : {decision.reason}
          </li>
        ))}
      </ol>
      <Cli command={`hotpair explain ${group.name}`} />
    </section>
  );
}
