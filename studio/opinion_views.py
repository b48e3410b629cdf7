"""Second opinions on the Label page: doubtful rows asked again, several models voting, reasons for labels."""

from __future__ import annotations

import streamlit as st

from engine.models import catalog
from studio import second_opinions, ui
from studio.runtime import Studio
from studio.second_opinions import Another
from studio.words import number, percent, plural
from workspace import links, rules, runs, votes
from workspace.facts import ModelSpec

WHO = {
    "model": "Another model",
    "order": "The same, labels in reverse order",
    "samples": "The same, several answers",
}
KINDS = {"arbitrate": "Decides doubtful rows", "vote": "Votes", "explain": "Says why"}


def draw(studio: Studio, run_id: str, dimension: str) -> None:
    """What can be asked once more, and what was."""
    _linked(studio, run_id)
    again, vote, why = st.tabs(
        ["Ask doubtful rows again", "Let models vote", "Ask for reasons"], key="opinion_tabs"
    )
    with again, ui.guarded():
        _ask_again(studio, run_id, dimension)
    with vote, ui.guarded():
        _vote(studio, run_id)
    with why, ui.guarded():
        _explain(studio, run_id, dimension)


def _ask_again(studio: Studio, run_id: str, dimension: str) -> None:
    st.caption(
        "Rows the model is unsure of go to a stronger one. Its answer counts; the first one is kept beside it."
    )
    with st.container(horizontal=True, vertical_alignment="bottom", key="again_form"):
        below = st.slider("Confidence below", 5, 100, 60, format="%d%%", key="again_below")
        who = st.selectbox("Who", list(WHO), format_func=WHO.__getitem__, key="again_who")
        model = _model(studio, run_id, "again_model") if who == "model" else None
        samples = int(st.number_input("Answers", 2, 25, 5, key="again_samples")) if who == "samples" else 1
        flagged = (
            st.checkbox("And rows that break a rule", key="again_flagged", value=bool(_rules(studio, run_id)))
            if _rules(studio, run_id)
            else False
        )
    chosen = second_opinions.doubtful(studio.store, run_id, dimension, below / 100, flagged=flagged)
    if st.button(
        f"Ask {plural(len(chosen), 'row')} again",
        key="ask_again",
        icon=":material/replay:",
        disabled=not chosen or (who == "model" and model is None),
    ):
        another = Another(
            model=catalog.asked_as(model) if model else "",
            order="reversed" if who == "order" else "task",
            samples=samples,
        )
        second_opinions.ask_again(studio, run_id, chosen, another, "arbitrate")
        st.rerun()


def _vote(studio: Studio, run_id: str) -> None:
    st.caption(
        "Each model labels every row; their probabilities are pooled. Models that agree with people more often "
        "weigh more; until labels by people tell them apart, all weigh the same."
    )
    voices = [run_id, *(link.other_id for link in links.of(studio.store, run_id) if link.kind == "vote")]
    if len(voices) > 1:
        ui.table(
            [
                {
                    "Model": fit.model,
                    "Weight": percent(fit.weight),
                    "Agrees with people": "not known yet" if fit.agreement is None else percent(fit.agreement),
                    "Checked rows": fit.checked,
                    "Rows/s": round(fit.rows_per_s, 1),
                }
                for fit in votes.weights(studio.store, voices)
            ],
            key="vote_table",
            alt_text="The models that vote and what they weigh",
        )
        found = [line for voice in voices for line in votes.per_node(studio.store, voice)]
        with st.expander("By machine", icon=":material/computer:", key="vote_nodes"):
            ui.table(
                [
                    {
                        "Machine": line.node,
                        "Model": line.model,
                        "Rows": line.rows,
                        "Rows/s": round(line.rows_per_s, 1),
                        "Agrees with people": "not known yet"
                        if line.agreement is None
                        else percent(line.agreement),
                    }
                    for line in found
                ],
                key="vote_node_table",
                alt_text="What each machine did with each model",
            )
    with st.container(horizontal=True, vertical_alignment="bottom", key="vote_form"):
        model = _model(studio, run_id, "vote_model")
        if st.button("Let it vote", key="add_vote", icon=":material/how_to_vote:", disabled=model is None):
            assert model is not None
            second_opinions.vote(studio, run_id, [catalog.asked_as(model)])
            st.rerun()
        if len(voices) > 1 and st.button("Weigh anew", key="weigh", icon=":material/balance:"):
            second_opinions.weigh(studio, run_id)
            st.rerun()


def _explain(studio: Studio, run_id: str, dimension: str) -> None:
    st.caption(
        "The model says in a sentence why. Shown while reviewing, and exported. It takes longer than labeling."
    )
    with st.container(horizontal=True, vertical_alignment="bottom", key="explain_form"):
        below = st.slider("Confidence below", 5, 100, 60, format="%d%%", key="explain_below")
        chosen = second_opinions.doubtful(studio.store, run_id, dimension, below / 100)
        if st.button(
            f"Explain {plural(len(chosen), 'row')}", key="explain", icon=":material/chat:", disabled=not chosen
        ):
            second_opinions.ask_again(studio, run_id, chosen, Another(explain=True), "explain")
            st.rerun()


def _linked(studio: Studio, run_id: str) -> None:
    """Runs that have a say in this one, with how far they are."""
    found = links.of(studio.store, run_id)
    records = {run.id: run for run in runs.list_runs(studio.store)} if found else {}
    for link in found:
        run, progress = records[link.other_id], studio.progress().get(link.other_id)
        done = progress.done if progress else run.labeled_rows
        with st.container(
            horizontal=True, vertical_alignment="center", border=True, key=f"link_{link.kind}_{run.id[:8]}"
        ):
            st.markdown(f"**{KINDS[link.kind]}**: {run.model_name}", width="stretch")
            st.caption(f"{number(done)} of {plural(run.rows, 'row')}", width="content")
            if st.button(
                "Leave out",
                key=f"unlink_{link.kind}_{run.id[:8]}",
                type="tertiary",
                help="Its answers are kept, and count no more.",
            ):
                links.remove(studio.store, run_id, link.other_id, link.kind)
                st.rerun()


def _model(studio: Studio, run_id: str, key: str) -> ModelSpec | None:
    """One of the models besides that of the run."""
    own = runs.spec(studio.store, run_id).model.digest
    found = {catalog.asked_as(model): model for model in catalog.available() if model.digest != own}
    chosen = st.selectbox("Model", list(found), format_func=lambda name: found[name].name, key=key)
    return found.get(chosen or "")


def _rules(studio: Studio, run_id: str) -> bool:
    return bool(rules.broken(studio.store, run_id))
