import { cluster as clusterActions, node as actions } from '../api/actions';
import { get } from '../api/client';
import type { FenceView, NodeView, StatusView } from '../api/types';
import { ActionButtons, type Offer } from '../components/action-buttons';
import { Links } from '../components/links';
import { NodeMarks } from '../components/node-marks';
import { ProblemBox } from '../components/parts';
import { useLoad } from '../components/use-load';
import { Waiting } from '../components/waiting';
import { useText } from '../state/preferences';
import { useCluster } from '../state/store';
import { tone } from '../words/states';

export default function Nodes() {
  const { t } = useText();
  const { status } = useCluster();
  const fences = useLoad<FenceView[]>(`fences ${status?.cluster.revision ?? 0}`, () => get('/fences'));
  if (!status) return <Waiting />;
  return (
    <div className="page live-data">
      <div className="head">
        <h1>{t('nav.nodes')}</h1>
        <span>{t(status.disarmed ? 'overview.disarm.off' : 'overview.disarm.on')}</span>
        <ActionButtons
          about={t('nodes.cluster')}
          offers={[{ action: status.disarmed ? clusterActions.arm() : clusterActions.disarm() }]}
        />
      </div>
      <div className="grid">
        {status.nodes.map((node) => (
          <NodeCard key={node.name} status={status} node={node} fenced={fences.data?.some((view) => view.node === node.name) ?? false} />
        ))}
      </div>
      <section aria-labelledby="fences" className="card">
        <h2 id="fences">{t('nodes.fences')}</h2>
        {fences.error !== null && <ProblemBox error={fences.error} />}
        {fences.data?.length === 0 && <p className="faint">{t('nodes.fences.none')}</p>}
        {fences.data && fences.data.length > 0 && <Fences fences={fences.data} />}
      </section>
    </div>
  );
}

function offersFor(node: NodeView, fenced: boolean): { offers: Offer[]; more: Offer[] } {
  const offers: Offer[] = [
    { action: node.drained ? actions.undrain(node.name) : actions.drain(node.name) },
    { action: actions.maintenance(node.name, !node.maintenance) },
  ];
  if (node.held_out) offers.push({ action: actions.clear(node.name) });
  const more: Offer[] = [];
  if (fenced) more.push({ action: actions.fence(node.name) });
  if (node.state !== 'online') more.push({ action: actions.down(node.name) });
  return { offers, more };
}

function NodeCard({ status, node, fenced }: { status: StatusView; node: NodeView; fenced: boolean }) {
  const { t, state } = useText();
  const { offers, more } = offersFor(node, fenced);
  return (
    <div className={`card tone-edge-${tone('member', node.state)}`} data-node={node.name}>
      <div className="row">
        <h2>{node.name}</h2>
        <NodeMarks status={status} node={node} />
      </div>
      <p className="faint">{state('member', node.state).means}</p>
      {node.fencing && <p className="tone-text-bad">{node.fencing}</p>}
      <Links links={node.links} node={node.name} full />
      <p className="faint">
        {t('nodes.boot')}: <span className="mono">{node.boot_id || '–'}</span>
      </p>
      <ActionButtons offers={offers} more={more} about={node.name} />
    </div>
  );
}

function Fences({ fences }: { fences: FenceView[] }) {
  const { t } = useText();
  return (
    <div className="scroll" tabIndex={0} role="region" aria-labelledby="fences">
      <table className="flat">
        <thead>
          <tr>
            <th scope="col">{t('nodes.device')}</th>
            <th scope="col">{t('nodes.fences.node')}</th>
            <th scope="col">{t('nodes.level')}</th>
            <th scope="col">{t('nodes.agent')}</th>
            <th scope="col">{t('nodes.action')}</th>
          </tr>
        </thead>
        <tbody>
          {fences.map((fence) => (
            <tr key={fence.device}>
              <td>{fence.device}</td>
              <td>{fence.node}</td>
              <td>{fence.level}</td>
              <td>{fence.agent}</td>
              <td>{fence.action}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
