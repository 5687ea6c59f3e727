// How the page looks: at night and by day, on a telephone and on paper. Colours say what signs and words say, too.

/** The one style sheet of the page; its hash stands in the page's Content-Security-Policy. */
export const style = `
:root{color-scheme:light dark;--bg:#fbfaf7;--panel:#fff;--ink:#1c2026;--soft:#545d68;--line:#dcdfe3;--faint:#eff0ee;
--ok:#2b7348;--changed:#1c5cab;--skipped:#6c7580;--bad:#b0241c;--unsure:#865600;--would:#6a3ca3;--wait:#a9b0b8;--bad-wash:#fdecea;--ok-wash:#e9f4ed;--unsure-wash:#fbf1dc}
@media (prefers-color-scheme:dark){:root{--bg:#111418;--panel:#171b21;--ink:#e5e8ec;--soft:#a3acb7;--line:#2d343d;--faint:#1d2229;
--ok:#6fc792;--changed:#7ab2f7;--skipped:#8c96a2;--bad:#ff8f85;--unsure:#efb95c;--would:#c7a5f3;--wait:#5b6470;--bad-wash:#341a1a;--ok-wash:#15291d;--unsure-wash:#2f2610}}
*{box-sizing:border-box}
html{background:var(--bg);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","Noto Sans","DejaVu Sans",sans-serif;-webkit-text-size-adjust:100%;scroll-behavior:smooth}
body{max-width:78rem;margin:0 auto;padding:1.5rem clamp(.9rem,3vw,2.5rem) 4rem}
h1,h2,h3{line-height:1.2;text-wrap:balance;overflow-wrap:anywhere}
h1{font-size:clamp(1.6rem,4vw,2.3rem);margin:.1rem 0 .4rem;letter-spacing:-.015em}
h2{font-size:1.3rem;margin:3rem 0 .8rem;padding-top:.9rem;border-top:2px solid var(--ink)}
h3{font-size:1.02rem;margin:1.8rem 0 .5rem}
p{margin:.4rem 0;max-width:72ch;overflow-wrap:anywhere}
a{color:inherit;text-decoration-color:var(--wait);text-underline-offset:.18em}a:hover{text-decoration-color:currentColor}
:focus-visible{outline:2px solid var(--changed);outline-offset:2px;border-radius:2px}
code,pre,.mono{font-family:ui-monospace,"SF Mono",SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.86em}
code,.mono{overflow-wrap:anywhere}
.soft{color:var(--soft)}.small{font-size:.86rem}.num{font-variant-numeric:tabular-nums;white-space:nowrap}
.eyebrow{color:var(--soft);font-size:.8rem;letter-spacing:.08em;text-transform:uppercase;margin:0}
.verdict{border-left:.4rem solid var(--ok);background:var(--ok-wash);padding:.8rem 1.1rem;margin:1.2rem 0;border-radius:0 .3rem .3rem 0}
.verdict.bad{border-color:var(--bad);background:var(--bad-wash)}.verdict.unsure{border-color:var(--unsure);background:var(--unsure-wash)}
.verdict>p:first-child{font-size:1.15rem;font-weight:650;margin-top:0}.verdict>p:last-child{margin-bottom:0}
.verdict pre{background:none;border:0;padding:.2rem 0;margin:.3rem 0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.6rem,1fr));border:1px solid var(--line);border-radius:.4rem;overflow:hidden;background:var(--panel);margin:1.2rem 0;padding:0;list-style:none}
.tiles li{padding:.7rem .9rem;min-width:0;box-shadow:0 0 0 .5px var(--line)}.tiles b{display:block;font-size:1.35rem;line-height:1.25;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.tiles span{color:var(--soft);font-size:.84rem}
nav ul{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;list-style:none;padding:0;margin:1rem 0 0;font-size:.92rem}
dl{display:grid;grid-template-columns:minmax(7rem,16rem) minmax(0,1fr);gap:.35rem 1.2rem;margin:.8rem 0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere;white-space:pre-line;min-width:0}
table{border-collapse:collapse;width:100%;font-size:.92rem}
th,td{text-align:left;vertical-align:top;padding:.42rem .8rem .42rem 0;border-bottom:1px solid var(--line);overflow-wrap:anywhere}
th{color:var(--soft);font-weight:600;font-size:.8rem;letter-spacing:.02em;white-space:nowrap}
td.pre{white-space:pre-line}
tr.differs>:first-child{box-shadow:inset .22rem 0 var(--unsure);padding-left:.7rem}
.gates table,.files table{table-layout:fixed}.files th:first-child{width:30%}.gates th:first-child{width:36%}.gates th:nth-child(2){width:15%}.gates .mark{white-space:normal}.gates pre{margin:.15rem 0 .4rem;padding:.45rem .6rem}
pre{white-space:break-spaces;overflow-wrap:anywhere;background:var(--faint);border:1px solid var(--line);border-radius:.3rem;padding:.7rem .9rem;margin:.6rem 0;line-height:1.45}
.mark{white-space:nowrap;font-weight:600}.mark b{display:inline-block;min-width:1.1em;text-align:center}
.mark.ok{color:var(--ok)}.mark.changed{color:var(--changed)}.mark.skipped{color:var(--soft)}.mark.bad{color:var(--bad)}.mark.unsure{color:var(--unsure)}.mark.would{color:var(--would)}
svg{display:block;width:100%;overflow:hidden}
svg .ok{fill:var(--ok);stroke:var(--ok)}svg .changed{fill:var(--changed);stroke:var(--changed)}svg .skipped{fill:var(--skipped);stroke:var(--skipped)}
svg .bad{fill:var(--bad);stroke:var(--bad)}svg .unsure{fill:var(--unsure);stroke:var(--unsure)}svg .would{fill:var(--would);stroke:var(--would)}
svg rect.wait{fill:var(--wait)}svg path.wait{stroke:var(--wait);stroke-opacity:.4}svg path{fill:none}svg path.area{fill:var(--changed);fill-opacity:.28;stroke:none}svg path.bad.area{fill:var(--bad);fill-opacity:1}
svg .grid{stroke:var(--line);stroke-width:1}svg .mile{stroke:var(--would);stroke-width:1.5;stroke-dasharray:3 2}
svg text{fill:var(--soft);font-size:11px;font-variant-numeric:tabular-nums}
.bar rect{stroke-width:1.2px}
.part{margin-top:1rem}
.row{display:grid;grid-template-columns:1.2rem minmax(0,21rem) 4.9rem minmax(0,1fr);gap:0 .6rem;align-items:center;min-height:1.7rem}
.row>.bar,.row>.axis{grid-column:4}
.row .title{overflow-wrap:anywhere;line-height:1.25;padding:.16rem 0}
.row .title .mark{white-space:normal}.row .num{color:var(--soft);font-size:.84rem;text-align:right}
.axis-row{position:sticky;top:0;background:var(--bg);z-index:1;border-bottom:1px solid var(--line);min-height:1.4rem}
.play{margin:.9rem 0 0}.play>.row{font-weight:650}.play>.row .title{font-size:.98rem}
details.step{border-top:1px solid var(--faint)}
summary{cursor:pointer;list-style:none}summary::-webkit-details-marker{display:none}
summary:hover .title{text-decoration:underline;text-decoration-color:var(--wait);text-underline-offset:.18em}
details.step>summary .title{font-size:.92rem}
details.more>summary{color:var(--soft);font-size:.9rem;padding:.3rem 0}details.more>summary::before{content:"▸ "}details.more[open]>summary::before{content:"▾ "}
.inner{margin:.2rem 0 .9rem 1.8rem;padding:.2rem 0 0 .9rem;border-left:2px solid var(--line)}
.quiet{color:var(--soft);font-size:.9rem;margin:.3rem 0 0 1.8rem}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;list-style:none;margin:.4rem 0;padding:0;font-size:.86rem}
.legend i{display:inline-block;width:1.4rem;height:.2rem;background:var(--wait);vertical-align:middle}
.curve{margin:1.1rem 0 .4rem}.curve h4{margin:0 0 .25rem;font-size:.94rem;display:flex;flex-wrap:wrap;gap:0 .8rem;align-items:baseline}.curve h4 span{font-weight:400}
.curve svg.plot{border-bottom:1px solid var(--soft);background:var(--panel)}
.beside .two{display:grid;gap:.15rem}.beside .two svg{height:.5rem}
footer{margin-top:3.5rem;border-top:1px solid var(--line);padding-top:1rem;color:var(--soft);font-size:.86rem}
@media (max-width:720px){
.row{grid-template-columns:1.2rem minmax(0,1fr) auto}.row>.bar{grid-column:1/-1;margin:.1rem 0 .35rem}.row>.axis{grid-column:1/-1}.inner{margin-left:.3rem}.quiet{margin-left:.3rem}
dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.6rem}
table.wide,table.wide tbody,table.wide tr,table.wide td{display:block;width:100%}table.wide thead{display:none}
table.wide tr{border-bottom:1px solid var(--line);padding:.5rem 0}table.wide td{border:0;padding:.08rem 0}table.wide td:empty{display:none}
table.wide td[data-head]::before{content:attr(data-head) ": ";color:var(--soft);font-size:.84rem}
}
@media print{
:root{--bg:#fff;--panel:#fff;--ink:#000;--soft:#444;--line:#bbb;--faint:#f4f4f4;--ok:#2b7348;--changed:#1c5cab;--skipped:#6c7580;--bad:#b0241c;--unsure:#865600;--would:#6a3ca3;--wait:#999;--bad-wash:#fff;--ok-wash:#fff;--unsure-wash:#fff}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}html{font-size:10.5pt}body{max-width:none;padding:0}nav{display:none}.axis-row{position:static}
h2,h3,h4{break-after:avoid}tr,.row,.curve,.verdict,.tiles{break-inside:avoid}details::details-content{content-visibility:visible;block-size:auto}
a{text-decoration:none}}
`
